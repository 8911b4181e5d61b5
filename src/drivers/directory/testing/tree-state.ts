/** A tree as text, by ordinary calls: to compare source and copy, special files left out. */
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import { getXattr, listXattrs } from '../../../os/attributes.ts'

export function treeState(root: string): string[] {
  const lines: string[] = []
  const firstNames = new Map<bigint, string>()
  const visit = (path: Buffer, shown: string): void => {
    const stat = fs.lstatSync(path, { bigint: true })
    const owner = `${stat.uid}:${stat.gid} ${stat.mtimeNs}`
    if (stat.isSymbolicLink()) {
      lines.push(`${shown} -> ${fs.readlinkSync(path, { encoding: 'latin1' })} ${owner}`)
      return
    }
    if (!stat.isFile() && !stat.isDirectory()) return
    const xattrs = listXattrs(path)
      .sort()
      .map(name => `${name}=${getXattr(path, name)?.toString('hex')}`)
    const rest = `${(stat.mode & 0o7777n).toString(8)} ${owner} ${xattrs.join(',')}`
    if (stat.isFile()) {
      const first = firstNames.get(stat.ino)
      if (first !== undefined) {
        lines.push(`${shown} = ${first}`)
        return
      }
      if (stat.nlink > 1n) firstNames.set(stat.ino, shown)
      const digest = createHash('sha1').update(fs.readFileSync(path)).digest('hex')
      lines.push(`${shown} file ${stat.size} ${digest} ${rest}`)
      return
    }
    lines.push(`${shown}/ ${rest}`)
    for (const name of fs.readdirSync(path, { encoding: 'buffer' }).sort(Buffer.compare))
      visit(Buffer.concat([path, Buffer.from('/'), name]), `${shown}/${name.toString('latin1')}`)
  }
  visit(Buffer.from(root), '')
  return lines
}
