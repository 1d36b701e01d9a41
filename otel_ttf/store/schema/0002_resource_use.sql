-- A resource goes once no event has it any more. It is marked with the block of 4096 events in which one last had it:
-- the day it was used on would not do where events go because there are too many of them.
ALTER TABLE resource RENAME COLUMN used_day TO used_block;
UPDATE resource SET used_block = (SELECT coalesce(max(id), 0) / 4096 FROM event);
CREATE INDEX resource_used ON resource (used_block);
