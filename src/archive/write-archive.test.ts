import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough, Writable } from 'node:stream'
import { after, before, beforeEach, test } from 'node:test'
import * as zlib from 'node:zlib'
import type { Snapshot, SnapshotBatch } from '../drivers/snapshot.ts'
import { nodeStorage } from '../os/node-storage.ts'
import type { Storage, StorageFile } from '../os/storage.ts'
import { type ArchiveFormat, archiveFormats, frameBytes, levels } from './compression.ts'
import { WalkedSnapshot } from './testing/walked-snapshot.ts'
import { examineArchive } from './verify-archive.ts'
import { type WriteArchiveOptions, writeArchiveFile, writeArchiveStream } from './write-archive.ts'

let root: string
let tree: string
let out: string
let file: string
const old = 'the archive of yesterday'

before(() => {
  root = fs.mkdtempSync(join(tmpdir(), 'hotspare-write-'))
  tree = join(root, 'tree')
  fs.mkdirSync(tree)
  for (let i = 0; i < 200; i++)
    fs.writeFileSync(join(tree, `file-${i}`), Buffer.alloc(20_000, `content ${i} `))
  fs.writeFileSync(join(tree, 'large'), Buffer.alloc(5_500_000, 'large content '))
})
after(() => fs.rmSync(root, { recursive: true }))
beforeEach(() => {
  out = fs.mkdtempSync(join(root, 'out-'))
  file = join(out, 'archive')
  fs.writeFileSync(file, old)
})

function options(
  format: ArchiveFormat,
  snapshot: Snapshot = new WalkedSnapshot(tree),
  signal = new AbortController().signal,
): WriteArchiveOptions {
  return { snapshot, format, level: levels[format].usual, ownName: 'own', signal, onProgress() {} }
}

function isUntouched(): void {
  assert.equal(fs.readFileSync(file, 'utf8'), old)
  assert.deepEqual(fs.readdirSync(out), ['archive'])
}

/** The machine's storage, with every file it opens for writing changed. */
function storageWith(change: (file: StorageFile) => Partial<StorageFile>): Storage {
  return {
    ...nodeStorage,
    async open(path, mode, createMode) {
      const real = await nodeStorage.open(path, mode, createMode)
      const own: StorageFile = {
        read: (buffer, offset) => real.read(buffer, offset),
        write: (data, offset) => real.write(data, offset),
        writeDurably: (data, offset) => real.writeDurably(data, offset),
        truncate: size => real.truncate(size),
        stat: () => real.stat(),
        sync: what => real.sync(what),
        close: () => real.close(),
      }
      return { ...own, ...change(own) }
    },
  }
}

test('an archive replaces the one before it, is readable by its owner only, and leaves nothing else', async () => {
  for (const format of archiveFormats) {
    const figures = await writeArchiveFile(nodeStorage, file, options(format))
    assert.equal(figures.members, 202)
    assert.equal(figures.bytes, 200 * 20_000 + 5_500_000)
    assert.equal(fs.statSync(file).size, figures.archiveBytes)
    assert.equal(fs.statSync(file).mode & 0o777, 0o600)
    assert.deepEqual(fs.readdirSync(out), ['archive'])
  }
})

test('what goes to a stream is what goes to a file', async () => {
  for (const format of archiveFormats) {
    await writeArchiveFile(nodeStorage, file, options(format))
    const stream = new PassThrough({ highWaterMark: 1000 })
    const pieces: Buffer[] = []
    stream.on('data', piece => pieces.push(piece))
    await writeArchiveStream(stream, options(format))
    assert.ok(Buffer.concat(pieces).equals(fs.readFileSync(file)), format)
  }
})

test('a wrong byte on the disk, wherever it is, is found when the archive is read back, and the old one stays', async () => {
  for (const format of archiveFormats) {
    await writeArchiveFile(nodeStorage, join(root, 'size'), options(format))
    const { size } = fs.statSync(join(root, 'size'))
    const places = format === 'tar.gz' ? [12, 200, size - 3] : [1, 300, 5000, size >> 1, size - 3]
    for (const place of places) {
      const storage = storageWith(real => ({
        async write(data, offset) {
          const own = Buffer.from(data)
          const at = place - offset
          if (at >= 0 && at < own.length) own[at] = (own[at] as number) ^ 4
          await real.write(own, offset)
        },
      }))
      await assert.rejects(
        writeArchiveFile(storage, file, options(format)),
        { code: 'archive-damaged' },
        `${format} at ${place} of ${size}`,
      )
      isUntouched()
    }
  }
})

test('an error of the disk at any write, at the end, or in a name leaves the old archive and nothing else', async () => {
  const failures: Storage[] = [0, 1, 4].map(number => {
    let writes = 0
    return storageWith(real => ({
      async write(data, offset) {
        if (writes++ === number) throw Object.assign(new Error('full'), { code: 'ENOSPC' })
        await real.write(data, offset)
      },
    }))
  })
  failures.push(
    storageWith(() => ({
      sync: () => Promise.reject(Object.assign(new Error('bad disk'), { code: 'EIO' })),
    })),
    { ...nodeStorage, rename: () => Promise.reject(Object.assign(new Error('no'), { code: 'EIO' })) },
  )
  for (const storage of failures) {
    await assert.rejects(writeArchiveFile(storage, file, options('tar')), { code: /ENOSPC|EIO/ })
    isUntouched()
  }
})

test('an interruption leaves the old archive and nothing else', async () => {
  const controller = new AbortController()
  const work = writeArchiveFile(nodeStorage, file, {
    ...options('tar.zst', new WalkedSnapshot(tree), controller.signal),
    onProgress: () => controller.abort(),
  })
  await assert.rejects(work, { name: 'AbortError' })
  isUntouched()
})

/** A snapshot whose content is not what its digests say. */
class LyingSnapshot extends WalkedSnapshot {
  override async *batches(): AsyncGenerator<SnapshotBatch> {
    for await (const batch of super.batches()) {
      for (const entry of batch.entries) {
        if (entry.path === 'file-77' && entry.kind === 'file' && entry.content !== undefined) {
          entry.content[100] = 0x21
        }
      }
      yield batch
    }
  }
}

test('content that is not what was recorded of it is never archived, and is named', async () => {
  await assert.rejects(writeArchiveFile(nodeStorage, file, options('tar.zst', new LyingSnapshot(tree))), {
    code: 'archive-damaged',
    message: /file-77/,
  })
  isUntouched()
})

test('memory that is given back is not read any more', async () => {
  class Reused extends WalkedSnapshot {
    override async *batches(): AsyncGenerator<SnapshotBatch> {
      for await (const { entries } of super.batches()) {
        const contents = entries.flatMap(entry =>
          entry.kind === 'file' && entry.content !== undefined ? [entry.content] : [],
        )
        yield {
          entries,
          release() {
            for (const content of contents) content.fill(0x55)
          },
        }
      }
    }
  }
  await writeArchiveFile(nodeStorage, file, options('tar.gz', new Reused(tree)))
})

test('killed in the middle, the old archive is there, and the next one clears up', async () => {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'testing/slow-archiver.ts'), tree, file], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(child.stdout, 'data')
  const running = fs.readdirSync(out)
  assert.equal(running.length, 2, 'a temporary file is there while it runs')
  // what runs is left alone by another
  await writeArchiveFile(nodeStorage, join(out, 'other'), options('tar'))
  assert.equal(fs.readdirSync(out).length, 3)
  child.kill('SIGKILL')
  await once(child, 'exit')
  assert.equal(fs.readFileSync(file, 'utf8'), old)
  await writeArchiveFile(nodeStorage, file, options('tar'))
  assert.deepEqual(fs.readdirSync(out).sort(), ['archive', 'other'])
})

test('what another user left in a shared directory is left alone, and is no obstacle', async () => {
  const theirs = join(out, '.hotspare-archive-1-theirs')
  fs.writeFileSync(theirs, 'theirs')
  const storage: Storage = {
    ...nodeStorage,
    lock: (path, mode) =>
      path === theirs
        ? Promise.reject(Object.assign(new Error('not yours'), { code: 'EACCES' }))
        : nodeStorage.lock(path, mode),
  }
  await writeArchiveFile(storage, file, options('tar'))
  assert.deepEqual(fs.readdirSync(out).sort(), ['.hotspare-archive-1-theirs', 'archive'])
})

test('a stream whose reader goes away, or fails, ends the work with its error', async () => {
  const failing = new Writable({
    highWaterMark: 10,
    write: (_data, _encoding, done) => done(Object.assign(new Error('full'), { code: 'ENOSPC' })),
  })
  await assert.rejects(writeArchiveStream(failing, options('tar')), { code: 'ENOSPC' })
  const closing = new Writable({ highWaterMark: 10, write: () => setImmediate(() => closing.destroy()) })
  await assert.rejects(writeArchiveStream(closing, options('tar.zst')), { code: 'EPIPE' })
})

test('a stream gets nothing that was not proved before', async () => {
  const stream = new PassThrough({ highWaterMark: 100 })
  const pieces: Buffer[] = []
  stream.on('data', piece => pieces.push(piece))
  await assert.rejects(writeArchiveStream(stream, options('tar', new LyingSnapshot(tree))), {
    code: 'archive-damaged',
  })
  assert.equal(Buffer.concat(pieces).includes('content !77'), false)
  assert.ok(!Buffer.concat(pieces).includes(Buffer.alloc(1024)), 'no end was written')
})

test('frames are each whole: what is behind a damaged one can be saved', async () => {
  await writeArchiveFile(nodeStorage, file, options('tar.zst'))
  const bytes = fs.readFileSync(file)
  const magic = Buffer.from([0x28, 0xb5, 0x2f, 0xfd])
  const second = bytes.indexOf(magic, 4)
  assert.ok(second > 0)
  const rest = zlib.zstdDecompressSync(bytes.subarray(second))
  const all = zlib.zstdDecompressSync(bytes)
  assert.ok(rest.equals(all.subarray(frameBytes)))
  const { valid } = await examineArchive(nodeStorage, file, {
    signal: new AbortController().signal,
    onProgress() {},
  })
  assert.ok(valid)
})

test('large archives of what does not compress, and of what does, are verified frame by frame', async () => {
  const large = join(root, 'large-tree')
  fs.mkdirSync(large)
  fs.writeFileSync(join(large, 'noise'), randomBytes(24_000_000))
  fs.writeFileSync(join(large, 'same'), Buffer.alloc(24_000_000, 'same '))
  for (const format of archiveFormats) {
    await writeArchiveFile(nodeStorage, file, options(format, new WalkedSnapshot(large)))
    const reading = { signal: new AbortController().signal, onProgress() {} }
    const found = await examineArchive(nodeStorage, file, reading, new WalkedSnapshot(large))
    assert.ok(found.valid, `${format}: ${JSON.stringify(found.findings)}`)
    assert.equal(found.bytes, 48_000_000)
  }
})
