/** A systemd unit that runs a server, so that after a restart of the machine it runs again. */
import type { ServerConfig } from './server-config.ts'

export function unitName(config: ServerConfig): string {
  return `hotspare-${config.settings.set}.service`
}

/** `command` is how hotspare is run: the program and its first arguments, absolute. */
export function unitText(config: ServerConfig, command: readonly string[], user: string | undefined): string {
  const words = [...command, 'serve', '-c', config.path].map(quote).join(' ')
  return `[Unit]
Description=hotspare, server '${config.settings.name}' of the set '${config.settings.set}'
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
ExecStart=${words}
${user === undefined ? '' : `User=${user}\n`}Restart=on-failure
RestartSec=2
# what a stop has to finish is a commit
TimeoutStopSec=30
UMask=0077

[Install]
WantedBy=${user === undefined && process.getuid?.() !== 0 ? 'default.target' : 'multi-user.target'}
`
}

/** As systemd parses a command line: quotes, and its own '%' and '$' doubled. */
function quote(word: string): string {
  const plain = word.replaceAll('%', '%%').replaceAll('$', '$$$$')
  return /^[A-Za-z0-9_./:=@%$+,-]+$/.test(plain) ? plain : `"${plain.replace(/["\\]/g, '\\$&')}"`
}
