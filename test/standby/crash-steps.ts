/** A machine that dies at its n-th change of the disk from now on. */
import type { Plan } from '../../src/os/testing/faulty-storage.ts'

export function crashAt(wanted: number, done: 'nothing' | 'part' | 'all', onCrash: () => void): Plan {
  let changes = 0
  return step => {
    if (step.reads || changes++ !== wanted) return { kind: 'go' }
    onCrash()
    return { kind: 'crash', done }
  }
}

/** Counts the changes of the disk. */
export function counting(): { readonly plan: Plan; readonly changes: () => number } {
  let changes = 0
  return {
    plan: step => {
      if (!step.reads) changes++
      return { kind: 'go' }
    },
    changes: () => changes,
  }
}
