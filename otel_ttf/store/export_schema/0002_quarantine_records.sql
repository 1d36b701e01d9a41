-- As in store.db: records that one row stands for.
ALTER TABLE quarantine ADD COLUMN records INTEGER NOT NULL DEFAULT 1;
