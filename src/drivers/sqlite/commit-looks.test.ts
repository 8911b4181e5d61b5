import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CommitLooks } from './commit-looks.ts'

test('what was taken has everything up to the newest look that it covers, and that is said once', () => {
  const looks = new CommitLooks()
  looks.add(10, 100)
  looks.add(20, 200)
  looks.add(30, 200)
  looks.add(40, 300)
  assert.equal(looks.taken(99), undefined)
  assert.equal(looks.taken(150), 10)
  assert.equal(looks.taken(150), undefined)
  assert.equal(looks.taken(299), 30)
  assert.equal(looks.taken(1000), 40)
})

test('looks that nobody comes to are bounded, and nothing is said to be taken too soon', () => {
  const looks = new CommitLooks()
  for (let i = 0; i < 10_000; i++) looks.add(i, i)
  const upToMs = looks.taken(9_999)
  assert.ok(upToMs !== undefined && upToMs < 100, `${upToMs}`)
  looks.add(20_000, 20_000)
  assert.equal(looks.taken(20_000), 20_000)
})

test('a look at another log says nothing of this one', () => {
  const looks = new CommitLooks()
  looks.add(10, 5)
  looks.clear()
  assert.equal(looks.taken(100), undefined)
})
