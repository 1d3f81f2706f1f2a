-- The record that another one is kept as long as; only asked for records that have expired.
ALTER TABLE records ADD COLUMN parent TEXT;
