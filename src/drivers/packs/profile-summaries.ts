/** The profiles in a line each, for who only names them: by name, in the order in which `detect` asks them. */
export const profileSummaries = {
  rdm: 'a database directory of ascending *.pack files; all other files are copied whole when they change',
  'redis-aof': "Redis 7 'appendonlydir': base file, incremental files, and the manifest last",
  'prometheus-wal': "Prometheus 'wal': segments in ascending order, checkpoints whole",
  generic: 'append-only files in ascending order of their names (--pattern chooses which; default all)',
} as const
