-- What else is to be remembered (remembered.py): `file NAME`, the id of a file beside this one.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
