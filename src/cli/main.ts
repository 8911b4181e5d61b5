#!/usr/bin/env node
/**
 * Says what is wrong when Node.js is too old, before it loads anything that an old one can't. So this file imports
 * nothing, and uses nothing that an old parser does not know.
 */
const nodeMajorNeeded = 24
const exitNodeTooOld = 10
/** Until then a command has loaded what it needs, nearly always. */
const startMs = 500

if (Number(process.versions.node.split('.')[0]) < nodeMajorNeeded) {
  const message = `Node.js ${nodeMajorNeeded} or newer is needed; this is ${process.versions.node} (${process.execPath}). Install a newer one, or start it as 'npx -y node@${nodeMajorNeeded} $(command -v hotspare)'.`
  const json = process.argv.indexOf('--json') >= 0
  const error = { code: 'node-too-old', message: message, exit: exitNodeTooOld }
  process.stderr.write(
    json ? `${JSON.stringify({ error: error })}\n` : `hotspare: ${message} (node-too-old)\n`,
  )
  process.exitCode = exitNodeTooOld
} else {
  keepCompiledCode()
  setTimeout(holdLittle, startMs).unref()
  // comes up while the rest is loaded
  if (process.argv[2] === 'follow')
    import('../drivers/directory/scan-thread.ts').then(thread =>
      thread.startScanThreadEarly(process.argv.slice(3)),
    )
  import('./program.ts').then(program => program.run(process.argv))
}

/**
 * What moves through is short-lived: a young generation that does not grow holds 20 MB less of it, and in a follower an old one
 * that is collected when it has grown by half, not to four times its size, as much less again. Not from the start, since compiled
 * code, Node.js's own too, counts only under the flags that it was made with: so what was loaded until now is kept as it is,
 * and a command that is over sooner has paid nothing.
 */
function holdLittle(): void {
  process.getBuiltinModule('node:module').flushCompileCache()
  const v8 = process.getBuiltinModule('node:v8')
  v8.setFlagsFromString('--semi-space-growth-factor=1')
  // a server sets its own, and an archive would be collected more often than it is worth
  if (process.argv[2] === 'follow') v8.setFlagsFromString('--heap-growing-percent=50')
}

/**
 * Starts a third faster with the compiled code of the time before. Whoever can write it decides what runs here, so it is
 * kept only where nobody but this user can: with sudo, the home directory may be another's.
 */
function keepCompiledCode(): void {
  const home = process.env.HOME
  if (home === undefined || process.geteuid === undefined) return
  const cache = process.env.XDG_CACHE_HOME || `${home}/.cache`
  const fs = process.getBuiltinModule('node:fs')
  for (const directory of [home, cache, `${cache}/hotspare`]) {
    const stat = fs.statSync(directory, { throwIfNoEntry: false })
    if (stat !== undefined && (stat.uid !== process.geteuid() || (stat.mode & 0o022) !== 0)) return
  }
  process.getBuiltinModule('node:module').enableCompileCache(`${cache}/hotspare`)
}

export {}
