/** The recipes say what the command line can do, and every application that it knows has one. */
import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { applications } from '../src/daemon/applications.ts'
import { hotspare } from './cli/hotspare.ts'

const directory = join(import.meta.dirname, '../docs/recipes')
const pages = new Map(
  fs.readdirSync(directory).map(name => [name, fs.readFileSync(join(directory, name), 'utf8')] as const),
)

test('every known application has a recipe that mirrors it by its name, and the index names it', () => {
  const index = pages.get('README.md') ?? ''
  for (const { name } of applications) {
    const page = pages.get(`${name}.md`) ?? ''
    assert.match(page, new RegExp(`--app ${name}\\b`), name)
    assert.match(page, /^## Restore$/m, name)
    assert.ok(index.includes(`(${name}.md)`), name)
  }
  for (const name of pages.keys()) assert.ok(name === 'README.md' || index.includes(`(${name})`), name)
})

test('every link of a recipe leads to a page', () => {
  for (const [name, text] of pages) {
    for (const [, link = ''] of text.matchAll(/\]\(([^):]+)\)/g)) {
      assert.ok(fs.existsSync(join(directory, link)), `${name}: ${link}`)
    }
  }
})

test('every option of every command in a recipe is one that the command has', async () => {
  const used = new Map<string, Set<string>>()
  for (const text of pages.values()) {
    // what is quoted goes to other programs
    const lines = text.replaceAll(/\\\n\s*/g, '').replaceAll(/'[^'\n]*'|"[^"\n]*"/g, '')
    for (const [, command = '', rest = ''] of lines.matchAll(/hotspare ([a-z]+)((?: [^\n|&;<`]+)?)/g)) {
      const options = used.get(command) ?? new Set()
      for (const [option] of rest.matchAll(/(?<= )--?[a-z][a-z-]*/g)) options.add(option)
      used.set(command, options)
    }
  }
  assert.ok(used.size >= 5)
  for (const [command, options] of used) {
    const { exit, stdout } = await hotspare(command, '--help')
    assert.equal(exit, 0, command)
    for (const option of options) {
      assert.match(stdout, new RegExp(`(^|[ ,])${option}\\b`, 'm'), `hotspare ${command} ${option}`)
    }
  }
})
