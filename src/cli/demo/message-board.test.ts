import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { MessageBoard } from './message-board.ts'
import { judgeBoard } from './message-board-judge.ts'

let board: string
beforeEach(async () => {
  board = fs.mkdtempSync(join(tmpdir(), 'hotspare-board-'))
  const writing = new MessageBoard(board)
  writing.prefill(2_100)
  const posters = [writing.poster('one'), writing.poster('two')]
  for (let i = 0; i < 100; i++) await Promise.all(posters.map(poster => poster.post()))
})
afterEach(() => fs.rmSync(board, { recursive: true }))

const edit = (path: string, change: (text: string) => string) =>
  fs.writeFileSync(join(board, path), change(fs.readFileSync(join(board, path), 'utf8')))

test('a board at rest agrees with itself', () => {
  const { posts, topics, pages, tears } = judgeBoard(board)
  assert.deepEqual(tears, [])
  assert.equal(posts, 2_300)
  assert.ok(topics >= 39 && pages >= 115)
})

const tears: readonly (readonly [what: string, tear: () => void, said: RegExp])[] = [
  [
    'a post that only its page has',
    () => edit('logs/posting-0002.log', text => text.replace(/[^\n]+\n$/, '')),
    /post 2300 is on messages\/\d+\/\d+\.html, and in no log/,
  ],
  [
    'a post that only the log has',
    () => edit('messages/2/1.html', text => text.replace(/<!-- post 80 -->.*?<!-- \/post -->\n/s, '')),
    /post 80 is in logs\/posting-0001\.log, and not on messages\/2\/1\.html/,
  ],
  [
    'a page that is missing',
    () => fs.rmSync(join(board, 'messages/3/2.html')),
    /post 141 is in .*, and not on messages\/3\/2\.html/,
  ],
  [
    'a page that was cut',
    () => edit('messages/3/2.html', text => text.slice(0, 1_000)),
    /messages\/3\/2\.html is not whole/,
  ],
  ['a page that was emptied', () => edit('messages/3/2.html', () => ''), /messages\/3\/2\.html is not whole/],
  [
    'another text',
    () => edit('messages/3/2.html', text => text.replace('Post 145 says', 'Post 145 lies')),
    /post 145 on messages\/3\/2\.html has another text/,
  ],
  [
    'a log that was cut',
    () => edit('logs/posting-0001.log', text => text.slice(0, -3)),
    /logs\/posting-0001\.log ends within a line/,
  ],
  [
    'a log that is missing',
    () => fs.rmSync(join(board, 'logs/posting-0001.log')),
    /logs\/posting-0002\.log: post 2001 follows post 0/,
  ],
  [
    'a gap in a log',
    () => edit('logs/posting-0001.log', text => text.replace(/^1200\t.*\n/m, '')),
    /post 1201 follows post 1199/,
  ],
  [
    'a topic that counts others',
    () => edit('messages/1/topic.txt', text => text.replace('posts 60', 'posts 59')),
    /messages\/1\/topic\.txt says 59 posts, its pages have 60/,
  ],
  [
    'a topic without its count',
    () => fs.rmSync(join(board, 'messages/1/topic.txt')),
    /messages\/1\/topic\.txt is missing/,
  ],
]

for (const [what, tear, said] of tears) {
  test(`the judge of boards names ${what}`, () => {
    tear()
    const { tears } = judgeBoard(board)
    assert.ok(
      tears.some(sentence => said.test(sentence)),
      tears.slice(0, 5).join('; '),
    )
  })
}
