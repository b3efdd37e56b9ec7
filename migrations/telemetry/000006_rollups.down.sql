DROP TABLE rollups, rollup_numbers, rollup_lease;
