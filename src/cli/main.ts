#!/usr/bin/env node
/**
 * Says what is wrong when Node.js is too old, before it loads anything that an old one can't. So this file imports
 * nothing, and uses nothing that an old parser does not know.
 */
const nodeMajorNeeded = 24
const exitNodeTooOld = 10

if (Number(process.versions.node.split('.')[0]) < nodeMajorNeeded) {
  const message = `Node.js ${nodeMajorNeeded} or newer is needed; this is ${process.versions.node} (${process.execPath}). Install a newer one, or start it as 'npx -y node@${nodeMajorNeeded} $(command -v hotspare)'.`
  const json = process.argv.indexOf('--json') >= 0
  const error = { code: 'node-too-old', message: message, exit: exitNodeTooOld }
  process.stderr.write(
    json ? `${JSON.stringify({ error: error })}\n` : `hotspare: ${message} (node-too-old)\n`,
  )
  process.exitCode = exitNodeTooOld
} else {
  // what moves through is short-lived: a young generation that does not grow, from the start, holds 20 MB less of it
  process.getBuiltinModule('node:v8').setFlagsFromString('--semi-space-growth-factor=1')
  import('./program.ts').then(program => program.run(process.argv))
}

export {}
