-- What the tables of the maritime pack are for.
comment on table {schema}.ais_files is 'Files of ship positions that were loaded, by the sha256 of their bytes: none is loaded twice.';
comment on table {schema}.gear_identity_collisions is
    'Identities of fishing gear that were heard in two places at a time: the events of the model gear_identity_collision, '
    'brought up to date with them.';
