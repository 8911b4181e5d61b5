/**
 * ACLs between the kernel's bytes (an extended attribute: linux/posix_acl_xattr.h) and the text in which tar carries
 * them. Users and groups are numbers, since names differ from machine to machine.
 */
import { decodeXattrName, encodeXattrName } from './pax-records.ts'

const version = 2
const tag = { owner: 1, user: 2, owningGroup: 4, group: 8, mask: 16, other: 32 } as const

const aclKeywords: Readonly<Record<string, string>> = {
  'system.posix_acl_access': 'SCHILY.acl.access',
  'system.posix_acl_default': 'SCHILY.acl.default',
}

const xattrPrefix = 'SCHILY.xattr.'

/** How a pax header carries an extended attribute: keyword and value, in latin1. */
export function xattrRecord(name: string, value: Uint8Array): readonly [keyword: string, value: string] {
  const keyword = aclKeywords[name]
  const text = keyword === undefined ? undefined : aclText(value)
  if (keyword !== undefined && text !== undefined) return [keyword, text]
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.length)
  return [xattrPrefix + encodeXattrName(name), bytes.toString('latin1')]
}

/** The attribute's name, for people and comparison; undefined when the keyword is of something else. */
export function isXattrKeyword(keyword: string): boolean {
  return keyword.startsWith(xattrPrefix) || keyword.startsWith('SCHILY.acl.')
}

export function xattrNameOf(keyword: string): string {
  const acl = Object.entries(aclKeywords).find(([, known]) => known === keyword)
  return acl?.[0] ?? decodeXattrName(keyword.slice(xattrPrefix.length))
}

/** As acl_to_text writes it, in one line; undefined when the bytes are no ACL that we know. */
export function aclText(value: Uint8Array): string | undefined {
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.length)
  if (bytes.length < 4 || (bytes.length - 4) % 8 !== 0 || bytes.readUInt32LE(0) !== version) return undefined
  const entries: string[] = []
  for (let at = 4; at < bytes.length; at += 8) {
    const who = whoText(bytes.readUInt16LE(at), bytes.readUInt32LE(at + 4))
    const permissions = bytes.readUInt16LE(at + 2)
    if (who === undefined || permissions > 7) return undefined
    const text = [4, 2, 1].map((bit, i) => (permissions & bit ? 'rwx'[i] : '-')).join('')
    entries.push(`${who}:${text}`)
  }
  return entries.join(',')
}

function whoText(kind: number, id: number): string | undefined {
  switch (kind) {
    case tag.owner:
      return 'user:'
    case tag.user:
      return `user:${id}`
    case tag.owningGroup:
      return 'group:'
    case tag.group:
      return `group:${id}`
    case tag.mask:
      return 'mask:'
    case tag.other:
      return 'other:'
    default:
      return undefined
  }
}
