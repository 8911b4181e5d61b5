import { Child, describeExit } from './child.ts'

/** Runs a hotspare command to its end, as a user would. Gives the last object that it printed; throws unless it ended well. */
export async function runHotspare(
  args: readonly string[],
  signal: AbortSignal,
  environment: Readonly<Record<string, string>> = {},
): Promise<Record<string, unknown>> {
  let last: Record<string, unknown> = {}
  const hear = (line: Record<string, unknown>) => {
    last = line
  }
  const child = new Child('../main', [...args, '--json'], hear, environment)
  const kill = () => child.kill('SIGTERM')
  signal.addEventListener('abort', kill)
  process.on('exit', kill)
  try {
    const exit = await child.exit
    signal.throwIfAborted()
    if (exit.code !== 0) throw new Error(`hotspare ${args[0]} failed (${describeExit(exit)})`)
    return last
  } finally {
    signal.removeEventListener('abort', kill)
    process.off('exit', kill)
  }
}
