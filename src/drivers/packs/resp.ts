/** As much of the Redis protocol as it takes to ask a server whether it has loaded its data. */
import { connect, type Socket } from 'node:net'

export type Reply =
  | { readonly kind: 'value'; readonly text: string }
  | { readonly kind: 'error'; readonly text: string }

/** Sends one command over a new connection to a unix socket; the reply's first line, or for a bulk string its text. */
export function askRedis(socketPath: string, timeoutMs: number, ...words: readonly string[]): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const socket: Socket = connect(socketPath)
    let said = ''
    const fail = (error: Error) => {
      socket.destroy()
      reject(error)
    }
    socket.setTimeout(timeoutMs, () => fail(new Error(`no reply to ${words[0]} within ${timeoutMs} ms`)))
    socket.on('error', fail)
    socket.on('close', () => fail(new Error(`the connection ended before the reply to ${words[0]}`)))
    socket.on('data', data => {
      said += data.toString('latin1')
      const reply = parseReply(said)
      if (reply === undefined) return
      resolve(reply)
      socket.destroy()
    })
    const command = words.map(word => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')
    socket.write(`*${words.length}\r\n${command}`)
  })
}

function parseReply(said: string): Reply | undefined {
  const end = said.indexOf('\r\n')
  if (end < 0) return undefined
  const line = said.slice(1, end)
  if (said.startsWith('-')) return { kind: 'error', text: line }
  if (!said.startsWith('$') || line === '-1') return { kind: 'value', text: line === '-1' ? '' : line }
  const length = Number(line)
  const text = said.slice(end + 2, end + 2 + length)
  return text.length === length ? { kind: 'value', text } : undefined
}
