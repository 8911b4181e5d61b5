/** What a benchmark is given, and what it gives back. */

export interface Scale {
  /** Bytes of the large files. */
  readonly bytes: number
  /** How many files a tree has. */
  readonly files: number
  /** How long a load lasts. */
  readonly seconds: number
  readonly idleSeconds: number
  /** How often the two sides are run in turn. */
  readonly runs: number
}

export interface Setting {
  readonly scale: Scale
  /** An empty directory of the benchmark's own. */
  readonly directory: string
  /** The built command line: `node hotspare.js`. */
  readonly hotspare: string
}

export interface Result {
  readonly what: string
  readonly against: string
  /** As in 'ratio 1.05' or 'p50 2.1 ms'. */
  readonly figure: string
  readonly value: number
  readonly toReach: string
  readonly reached: boolean
  /** All that was measured. */
  readonly details: Readonly<Record<string, unknown>>
}

export interface Benchmark {
  readonly name: string
  /** Programs that it measures beside, with the packages that bring them. */
  readonly peers?: Readonly<Record<string, string>>
  run(setting: Setting): Promise<Result[]>
}
