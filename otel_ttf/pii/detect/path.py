"""Names of users in paths of files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from otel_ttf.pii.detect.around import before, listed
from otel_ttf.pii.detect.base import Detector, Span

# The directory that homes are in, at the beginning of a path; then the name.
_NAME = r"(?:[^\W_]|\ufffd)[\w.@+\ufffd-]{0,63}"  # U+FFFD: a letter that was no UTF-8
_HOME = re.compile(
    rf"(?P<unix>/(?:home|Users|export/home|var/home))/(?P<name>{_NAME})"
    r"|[A-Za-z]:(?P<sep>\\{1,4}|/)(?i:Users|Documents and Settings)(?P=sep)"
    rf"(?P<windows>{_NAME}(?:(?:[ ][\w.-]{{1,32}}){{1,2}}(?=[\\/]))?)"
)
# What stands before a path that begins there; a letter or digit there, and it is a part of a URL or a longer path.
_INSIDE = frozenset("._-~)}]*")
# Directories of no person: of services, of all, and of what builds and runs programs.
_NOBODY = frozenset(
    listed("""
    app apps user users node nodejs ubuntu ec2-user admin administrator root runner runneradmin circleci jenkins
    gitlab-runner git vsts vscode codespace www www-data nginx nobody nonroot default public shared guest deploy
    deployer service webapp web worker java python spark airflow jovyan postgres mysql redis container appuser
    azureuser vagrant docker builder build ci buildkite-agent travis containeradministrator containeruser
    linuxbrew user_name username all defaultuser0 systemprofile server src site lib bin opt data api static
    assets public_html index home dashboard profile settings page feed search about login products news main
    """)
)
# /home/dashboard is a page, and so is where a parameter of a URL leads.
_PAGES = re.compile(
    r"(?:\b(?:GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS)"
    r"|\b(?:route|url|uri|endpoint|href|referer|referrer|redirect|page)[a-z]*"
    r"|[?&](?:to|ur[il]|(?:next|return|continue|redirect|goto|callback|back|success|cancel|log(?:in|out))"
    r"(?:_?(?:to|path|ur[il]))?)=)[^\w/]{0,6}$",
    re.IGNORECASE,
)
_REST = re.compile(r"[0-9]+|[0-9a-f]{8}-[0-9a-f-]{20,}")


class Path(Detector):
    """The name in /home/name, /Users/name and C:\\Users\\name; not in the path of a URL."""

    name: ClassVar[str] = "user_path"
    secret: ClassVar[bool] = False
    label: ClassVar[str] = "USER"
    supersets: ClassVar[tuple[str, ...]] = (
        r"/home/[0-9A-Za-z\x80-\xff]",
        r"(?-i:/Users/)[0-9A-Za-z\x80-\xff]",
        # In JSON in JSON, backslashes are doubled again.
        r":[\\/]{1,8}(?:Users|Documents and Settings)[\\/]{1,8}[0-9A-Za-z\x80-\xff]",
    )

    def find(self, text: str) -> Iterator[Span]:
        folded = text.casefold()
        if not ("/home/" in text or "users" in folded or "documents" in folded):
            return
        for match in _HOME.finditer(text):
            if match["unix"] is not None and not _begins(text, match.start()):
                continue
            found = "name" if match["unix"] is not None else "windows"
            start, name = match.start(found), match[found].rstrip(".-@+ ")
            if name.lower() not in _NOBODY and not _REST.fullmatch(name):
                yield start, start + len(name)


def _begins(text: str, start: int) -> bool:
    """Whether a path begins there: not after a host, as in https://example.com/home/page."""
    one = before(text, start)[0]
    if _PAGES.search(text, max(0, start - 24), start):
        return False
    if one == ":":  # file:/home/jane, /usr/bin:/home/jane/bin
        return True
    if one == "/":  # file:///home/jane
        return (
            text[max(0, start - 7) : start].lower() == "file://" or text[max(0, start - 3) : start] == "://"
        )
    if one.isalnum():
        # /mnt/home/jane is not where paths begin; -I/home/jane and \n/home/jane are.
        return text[max(0, start - 3) : start - 1].endswith(("-", "\\"))
    return one not in _INSIDE
