import { CommandSwitch } from './command-switch.ts'
import { FlagFile } from './flag-file.ts'
import { openHttpSwitch } from './http-switch.ts'
import type { Mode } from './mode.ts'
import type { ModeSwitch, SwitchContext } from './mode-switch.ts'

/** Throws `usage` when what the mode needs is not there, before anything is done. */
export function openSwitch(mode: Mode, context: SwitchContext): Promise<ModeSwitch> | ModeSwitch {
  switch (mode.kind) {
    case 'commands':
      return new CommandSwitch(mode, context)
    case 'flag-file':
      return new FlagFile(mode.path, mode.text, context.storage)
    case 'http':
      return openHttpSwitch(mode, context)
  }
}
