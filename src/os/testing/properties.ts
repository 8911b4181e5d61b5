/** fast-check with the tests' seed, which it prints with what it finds. */
import fc from 'fast-check'
import { seed } from './seed.ts'

fc.configureGlobal({ seed })

export { fc }
