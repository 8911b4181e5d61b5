/**
 * The message board that tests mirror, in a process of its own; options and what it prints: src/cli/demo/board-writer.ts.
 * `maintenanceCommands` of src/cli/demo/maintenance-flag.ts gives the shell commands that switch its mode.
 */
import '../../src/cli/demo/board-writer.ts'
