/** Judges copies of a message board: `node board-judge.ts BOARD ...` prints what was found, status 1 if any is torn. */
import { judgeBoard } from '../../src/cli/demo/message-board-judge.ts'

let torn = false
for (const board of process.argv.slice(2)) {
  const finding = judgeBoard(board)
  console.log(
    JSON.stringify({ board, ...finding, tears: finding.tears.slice(0, 20), torn: finding.tears.length }),
  )
  torn ||= finding.tears.length > 0
}
process.exitCode = torn ? 1 : 0
