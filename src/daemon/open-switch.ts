import { CommandSwitch } from './command-switch.ts'
import { FlagFile } from './flag-file.ts'
import type { Mode } from './mode.ts'
import type { ModeSwitch, SwitchContext } from './mode-switch.ts'

/** Throws `usage` when what the mode needs is not there, before anything is done. */
export async function openSwitch(mode: Mode, context: SwitchContext): Promise<ModeSwitch> {
  switch (mode.kind) {
    case 'commands':
      return new CommandSwitch(mode, context)
    case 'flag-file':
      return new FlagFile(mode.path, mode.text, context.storage)
    case 'http': {
      // what it needs takes 20 ms to load, which no other command should have to wait for
      const { openHttpSwitch } = await import('./http-switch.ts')
      return openHttpSwitch(mode, context)
    }
  }
}
