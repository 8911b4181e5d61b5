/** One HTTP request of which only the status matters. The body is read and dropped; redirections are not followed. */
import { request as plainRequest } from 'node:http'
import { request as secureRequest } from 'node:https'

export interface HttpCall {
  readonly method: 'GET' | 'POST'
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly signal: AbortSignal
}

/** Gives the status; rejects when there was no answer, or on abort. */
export function httpCall({ method, url, headers, signal }: HttpCall): Promise<number> {
  const secure = url.startsWith('https:')
  return new Promise((resolve, reject) => {
    // no connection is kept: the answer to an enter is not to wait for one to be closed
    const call = (secure ? secureRequest : plainRequest)(url, {
      method,
      headers: { 'content-length': '0', ...headers },
      agent: false,
      signal,
    })
    call.once('error', reject)
    call.once('response', response => {
      response.once('error', reject)
      response.once('end', () => resolve(response.statusCode ?? 0))
      response.resume()
    })
    call.end()
  })
}
