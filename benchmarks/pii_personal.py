"""Personal data to plant in texts. It comes from Faker in many locales, or is computed from how it is defined: not by
the validators that are measured.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address
from itertools import pairwise

from pii_planted import LOCALES, Planted, Source


def _email(source: Source) -> Planted:
    faker, r = source.faker(), source.random
    address = r.choice((faker.email, faker.ascii_email, faker.company_email, faker.free_email))()
    if r.random() < 0.2:
        name = faker.first_name().lower()
        if name.isalpha():
            address = f"{name}{r.choice(('', '+news', '.x', '_1'))}@{address.split('@')[1]}"
    return Planted(address.upper() if r.random() < 0.03 else address)


def _card(source: Source) -> Planted:
    r = source.random
    number = source.faker("en_US").credit_card_number(
        r.choice(["visa16", "visa13", "visa19", "mastercard", "amex", "discover", "diners", "jcb16", "jcb15"])
    )
    if r.random() < 0.35 and len(number) in (14, 15, 16):
        sizes = {14: (4, 6, 4), 15: (4, 6, 5), 16: (4, 4, 4, 4)}[len(number)]
        places = [sum(sizes[:place]) for place in range(len(sizes) + 1)]
        groups = [number[a:b] for a, b in pairwise(places)]
        number = r.choice(" -").join(groups)
    return Planted(number, r.choice(("", "", "", "card ", "card number: ", "pan=", "cc ")))


def _iban(source: Source) -> Planted:
    locale = source.random.choice(
        [
            "de_DE",
            "de_CH",
            "fr_FR",
            "es_ES",
            "it_IT",
            "nl_NL",
            "pl_PL",
            "pt_BR",
            "pt_PT",
            "tr_TR",
            "en_GB",
            "no_NO",
            "fi_FI",
        ]
    )
    iban = source.faker(locale).iban()
    if source.random.random() < 0.4:
        iban = " ".join(iban[place : place + 4] for place in range(0, len(iban), 4))
    return Planted(iban)


_PHONE_LEADS = {
    "de": ("Tel. ", "Telefon: ", "Handy ", "Mobil: "),
    "fr": ("tél. / téléphone ", "portable: ", "téléphone : "),
    "es": ("teléfono: ", "móvil ", "tel. "),
    "it": ("telefono ", "cellulare: ", "tel. "),
    "pt": ("telefone: ", "celular ", "tel. "),
    "ru": ("телефон: ", "тел. "),
    "ja": ("電話: ", "携帯 "),
}


def _phone(source: Source) -> Planted:
    """With a +, or in groups after a word; bare digits are left alone by decision, and not planted."""
    r = source.random
    while True:
        locale = r.choice(LOCALES)
        number = source.faker(locale).phone_number()
        if number.startswith("+"):
            return Planted(number, r.choice(("", "", "phone: ", "to ")))
        if not any(gap in number.strip("0123456789")[:1] or gap in number[1:-1] for gap in " -./)"):
            continue
        if number.startswith("(+"):
            return Planted(number[1:], "(")
        leads = _PHONE_LEADS.get(
            locale[:2], ("phone: ", "phone=", "call ", "mobile: ", "fax ", '"phone": "', "Tel. ")
        )
        return Planted(number, r.choice(leads))


def _ip(source: Source) -> Planted:
    r = source.random
    lead = r.choice(("", "", "from ", "client_ip=", "peer ", "addr: "))
    if r.random() < 0.7:
        while True:
            address = IPv4Address(r.getrandbits(32))
            if address.is_global and not address.is_multicast:
                return Planted(str(address), lead)
    address6 = IPv6Address((r.choice((0x2001, 0x2A02, 0x2606, 0x2804, 0x2400)) << 112) | r.getrandbits(112))
    if r.random() < 0.4:
        address6 = IPv6Address(int(address6) & ~((1 << 80) - 1) | r.getrandbits(16) | 1)
    return Planted(r.choice((str(address6), address6.exploded)), lead)


def _ssn(source: Source) -> Planted:
    value = source.faker("en_US").ssn()
    if source.random.random() < 0.2:
        return Planted(
            value.replace("-", ""), source.random.choice(("ssn=", "SSN: ", "social security number "))
        )
    return Planted(value, source.random.choice(("", "", "ssn ")))


def _user_path(source: Source) -> Planted:
    faker, r = source.faker(), source.random
    name = r.choice((faker.user_name(), faker.first_name().lower().replace(" ", "")))
    if not name.replace(".", "").replace("_", "").replace("-", "").isalnum():
        name = source.faker("en_US").user_name()
    unix, tail = (
        r.choice(("/home/", "/Users/")),
        r.choice(("/src/app/main.py", "/.config/x.toml", "/src/a/b.go")),
    )
    if r.random() < 0.3:
        return Planted(name, "C:\\Users\\", "\\AppData\\Local\\Temp\\x.log")
    return Planted(name, unix, tail)


def _checked(
    source: Source, size: int, check: Callable[[str], str | None], lead: tuple[str, ...], layout: str
) -> Planted:
    """Random digits and the digits that check them, in a layout such as `### ### ####`."""
    while True:
        digits = str(source.random.randint(1, 9)) + source.digits(size - 1)
        end = check(digits)
        if end is not None:
            break
    rest = iter(digits + end)
    grouped = "".join(next(rest) if char == "#" else char for char in layout)
    bare = source.random.random() < 0.4
    return Planted(digits + end if bare else grouped, source.random.choice(lead))


def _nhs_check(digits: str) -> str | None:
    check = 11 - sum(int(digit) * weight for digit, weight in zip(digits, range(10, 1, -1), strict=True)) % 11
    return None if check == 10 else str(check % 11)


def _tax_check(digits: str) -> str | None:
    counts = sorted(digits.count(digit) for digit in set(digits))
    if counts[-1] not in (2, 3) or counts[-2] != 1:
        return None
    product = 10
    for digit in digits:
        product = ((int(digit) + product) % 10 or 10) * 2 % 11
    return str((11 - product) % 10)


def _tfn_check(digits: str) -> str | None:
    total = sum(int(digit) * weight for digit, weight in zip(digits, (1, 4, 3, 7, 5, 8, 6, 9), strict=True))
    # The last weight is 10, and 10 is -1 modulo 11.
    return None if total % 11 == 10 else str(total % 11)


def _faked(locale: str, method: str, *leads: str) -> Callable[[Source], Planted]:
    def make(source: Source) -> Planted:
        return Planted(getattr(source.faker(locale), method)(), source.random.choice(leads))

    return make


def _turned(a: int, b: int) -> int:
    """Product in the dihedral group of a pentagon: 0 to 4 turn, 5 to 9 flip."""
    if a < 5:
        return (a + b) % 5 + 5 * (b >= 5)
    return (a - b) % 5 + 5 * (b < 5)


def _aadhaar_check(digits: str) -> str | None:
    """Verhoeff's check digit, from the group itself."""
    shuffled = list(range(10))
    permutations = [shuffled]
    for _ in range(7):
        shuffled = [(1, 5, 7, 6, 2, 8, 3, 0, 9, 4)[digit] for digit in shuffled]
        permutations.append(shuffled)
    for check in "0123456789":
        product = 0
        for place, digit in enumerate(reversed(digits + check)):
            product = _turned(product, permutations[place % 8][int(digit)])
        if product == 0:
            return None if digits[0] == "1" else check
    return None


def _nino(source: Source) -> Planted:
    r = source.random
    letters = r.choice("ABCEGHJKLMOPRSTWXYZ") + r.choice("ABCEGHJKLMNPRSTWXYZ")
    if letters in ("BG", "GB", "NK", "KN", "TN", "NT", "ZZ"):
        letters = "JG"
    pairs = [letters, *(source.digits(2) for _ in range(3)), r.choice("ABCD")]
    return Planted(r.choice(("", " ")).join(pairs), r.choice(("nino ", "", "NI number: ")))


def _pan(source: Source) -> Planted:
    r = source.random
    up = string.ascii_uppercase
    kind = r.choice("PPPPCHF")
    value = f"{source.chars(up, 3)}{kind}{r.choice(up)}{r.randint(1, 9999):04}{r.choice(up)}"
    return Planted(value, r.choice(("PAN ", "pan=", "pan: ")) if kind != "P" else r.choice(("", "pan=")))


def _mac(source: Source) -> Planted:
    octets = [
        f"{source.random.randrange(0, 256, 2):02x}",
        *(f"{source.random.randrange(256):02x}" for _ in range(5)),
    ]
    octets[5] = source.random.choice("0123456789abcdef") + "e"
    return Planted(source.random.choice((":".join(octets), "-".join(octets).upper())))


def _imei(source: Source) -> Planted:
    digits = source.random.choice(("35", "86", "01")) + source.digits(12)
    total = sum(int(d) for d in digits[0::2]) + sum(sum(divmod(2 * int(d), 10)) for d in digits[1::2])
    return Planted(digits + str(-total % 10), source.random.choice(("imei=", "IMEI: ", "imei ")))


# Corpus, which has the name of its detector -> what makes its values.
PERSONAL: Mapping[str, Callable[[Source], Planted]] = {
    "email": _email,
    "iban": _iban,
    "card": _card,
    "us_ssn": _ssn,
    "us_itin": _faked("en_US", "itin", "", "itin "),
    "uk_nhs": lambda s: _checked(s, 9, _nhs_check, ("nhs ", "NHS number: ", "nhs_number="), "### ### ####"),
    "uk_nino": _nino,
    "de_tax_id": lambda s: _checked(
        s, 10, _tax_check, ("Steuer-ID ", "IdNr. ", "steuerId="), "## ### ### ###"
    ),
    "fr_nir": _faked("fr_FR", "ssn", "", "nir=", "sécurité sociale: "),
    "es_nif": _faked("es_ES", "nif", "", "dni "),
    "es_nie": _faked("es_ES", "nie", "", "nie "),
    "it_fiscal_code": _faked("it_IT", "ssn", "", "codice fiscale "),
    "nl_bsn": _faked("nl_NL", "ssn", "BSN ", "bsn=", "burgerservicenummer: "),
    "pl_pesel": _faked("pl_PL", "pesel", "PESEL ", "pesel=", 'pesel: "'),
    "br_cpf": _faked("pt_BR", "cpf", "", "CPF "),
    "in_aadhaar": lambda s: _checked(
        s, 11, _aadhaar_check, ("aadhaar ", "Aadhaar: ", "aadhaar_number="), "#### #### ####"
    ),
    "in_pan": _pan,
    "au_tfn": lambda s: _checked(s, 8, _tfn_check, ("TFN ", "tfn=", "tax file number: "), "### ### ###"),
    "ca_sin": _faked("en_CA", "ssn", "SIN ", "sin=", "social insurance number: "),
    "se_personnummer": _faked("sv_SE", "ssn", "personnummer ", "personnr: ", "pnr="),
    "imei": _imei,
    "mac": _mac,
    "ip": _ip,
    "phone": _phone,
    "user_path": _user_path,
}
