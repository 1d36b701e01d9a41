-- Records that one row stands for: more than one where they could not be parted. Before, each row counted as one.
ALTER TABLE quarantine ADD COLUMN records INTEGER NOT NULL DEFAULT 1;
