/**
 * Memory of the large buffers that go through a process, used again when it was given back. Memory outside V8's heap that is
 * left to the collector makes it collect the whole heap for each 64 MB of it, and each of its pages is cleared anew.
 *
 * Giving back is a matter of speed only: what nobody gives back is the collector's. Whoever gives back must be the last who
 * has the buffer, or a view of it.
 */

/** A megabyte of data, and what a message and a frame have around it; larger buffers are rare. */
export const largeBytesMax = 1024 * 1024 + 256 * 1024 + 1024
/** Below it, a whole one would be a waste. */
export const largeBytesMin = 768 * 1024
const keptMax = 8

const kept: ArrayBuffer[] = []
const lent = new WeakSet<ArrayBufferLike>()

/** A buffer of unknown content. Of another size than those above, it is an ordinary one. */
export function takeLarge(bytes: number): Buffer {
  if (bytes < largeBytesMin || bytes > largeBytesMax) return Buffer.allocUnsafe(bytes)
  const memory = kept.pop() ?? (Buffer.allocUnsafeSlow(largeBytesMax).buffer as ArrayBuffer)
  lent.add(memory)
  return Buffer.from(memory, 0, bytes)
}

/** Gives a buffer back at its first call; later ones do nothing, whoever has the memory then. */
export function giverOf(view: Uint8Array): () => void {
  let given = false
  return () => {
    if (!given) giveLarge(view)
    given = true
  }
}

/** Takes back the memory of a buffer or of a view of one; of one that was not taken here, or was given back, nothing. */
export function giveLarge(view: Uint8Array): void {
  const memory = view.buffer as ArrayBuffer
  if (lent.delete(memory) && kept.length < keptMax) kept.push(memory)
}
