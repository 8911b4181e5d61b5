/**
 * A maintenance mode by a flag file, honoured in earnest: the mode is on when the application says so, not when it was
 * asked for. Who wants the mode writes some text that was never used before into the flag file. The application stops
 * taking on work when it sees the file, waits for what is under way, and then writes that text into its own file, the
 * acknowledgement. It removes the acknowledgement when the flag is gone.
 */
import * as fs from 'node:fs'

export interface MaintenanceFiles {
  readonly flag: string
  readonly acknowledgement: string
}

/** Shell commands for who wants the mode: enter waits until it is on. */
export function maintenanceCommands({ flag, acknowledgement }: MaintenanceFiles) {
  const [f, a] = [quoted(flag), quoted(acknowledgement)]
  return {
    enter: `echo "$$ $(date +%s%N)" > ${f}.new && mv ${f}.new ${f} && until cmp -s ${f} ${a}; do sleep 0.002; done`,
    leave: `rm -f ${f}`,
    /** Status 0 while the mode is on. */
    verify: `cmp -s ${f} ${a}`,
  }
}

/** The application's side. */
export class MaintenanceMode {
  readonly #files: MaintenanceFiles
  #acknowledged = ''

  constructor(files: MaintenanceFiles) {
    this.#files = files
    this.#remove()
  }

  /** Whether somebody wants the mode. Cheap enough to be asked before each piece of work. */
  get wanted(): boolean {
    return fs.statSync(this.#files.flag, { throwIfNoEntry: false }) !== undefined
  }

  /** Nothing is written any more. To be called again and again while the mode is wanted: it may be wanted anew. */
  acknowledge(): void {
    const text = this.#read()
    if (text === '' || text === this.#acknowledged) return
    fs.writeFileSync(`${this.#files.acknowledgement}.new`, text)
    fs.renameSync(`${this.#files.acknowledgement}.new`, this.#files.acknowledgement)
    this.#acknowledged = text
  }

  /** The flag is gone, and work begins again. */
  over(): void {
    this.#remove()
  }

  #remove(): void {
    fs.rmSync(this.#files.acknowledgement, { force: true })
    this.#acknowledged = ''
  }

  #read(): string {
    try {
      return fs.readFileSync(this.#files.flag, 'utf8')
    } catch {
      return ''
    }
  }
}

function quoted(path: string): string {
  return `'${path.replaceAll("'", "'\\''")}'`
}
