/**
 * The questions whose answers make a configuration, each with what is asked, a default and a check; and the file that
 * they give. Pure: who asks, and where the file goes, is the caller's.
 */
import { parseBytes, parseDuration } from './units.ts'

export interface SetupStore {
  readonly path: string
  readonly driver: string
  readonly profile?: string
}

export interface SetupAnswers {
  readonly set: string
  readonly name: string
  readonly role: 'primary' | 'standby'
  readonly peer: string
  /** Where to call the peer; empty: it calls us. */
  readonly address: string
  /** HOST:PORT; empty: only we call. */
  readonly listen: string
  readonly state: string
  readonly limit: string
  readonly whenFull: 'block' | 'drop'
  readonly cascade: boolean
  readonly probeEvery: string
  readonly notify: string
  readonly onPromote: string
  readonly onDemote: string
  readonly stores: readonly SetupStore[]
}

export interface Question {
  readonly key: Exclude<keyof SetupAnswers, 'stores'>
  readonly text: string
  /** Shown below the question. */
  readonly hint?: string
  /** From what was answered before; undefined: an answer is needed. */
  preset(given: Readonly<Partial<Record<string, string>>>): string | undefined
  /** What is wrong with an answer; undefined: nothing. */
  wrong(answer: string): string | undefined
  /** False: not to be asked, by what was answered before. */
  asked?(given: Readonly<Partial<Record<string, string>>>): boolean
}

const isName = (answer: string) =>
  /^[A-Za-z0-9._-]{1,64}$/.test(answer) ? undefined : 'A name has 1 to 64 of A-Z a-z 0-9 . _ -'
const oneOf =
  (...known: string[]) =>
  (answer: string) =>
    known.includes(answer) ? undefined : `Answer ${known.join(' or ')}`
const anything = () => undefined

export const questions = (hostName: string): readonly Question[] => [
  { key: 'set', text: 'Name of the set of stores', preset: () => 'default', wrong: isName },
  { key: 'name', text: 'Name of this server', preset: () => hostName, wrong: isName },
  {
    key: 'role',
    text: 'Is it the primary or a standby?',
    hint: 'The primary has the live stores; a standby keeps copies and can take over.',
    preset: () => 'primary',
    wrong: oneOf('primary', 'standby'),
  },
  {
    key: 'peer',
    text: 'Name of the other server',
    preset: () => undefined,
    wrong: isName,
  },
  {
    key: 'address',
    text: 'Where to call the other server',
    hint: "tcp://HOST:2000 or ssh://USER@HOST; 'none' when it calls this one.",
    preset: given => (given.role === 'standby' ? undefined : 'none'),
    wrong: answer =>
      answer === 'none' || /^(tcp|ssh):\/\/\S+$/.test(answer)
        ? undefined
        : 'tcp://HOST:PORT, ssh://HOST or none',
  },
  {
    key: 'listen',
    text: 'Where to listen for the other server',
    hint: "HOST:PORT (0.0.0.0:2000 for all addresses of this machine); 'none' when only this one calls.",
    preset: given => (given.address === 'none' ? '127.0.0.1:2000' : 'none'),
    wrong: answer => (answer === 'none' || /^\S+:\d{1,5}$/.test(answer) ? undefined : 'HOST:PORT or none'),
  },
  {
    key: 'state',
    text: 'Directory for the log and all state',
    preset: given => `/var/lib/hotspare/${given.set ?? 'default'}`,
    wrong: answer => (answer.startsWith('/') ? undefined : 'An absolute path'),
  },
  {
    key: 'limit',
    text: 'Limit of the log',
    hint: 'What may wait for a standby that is away.',
    preset: () => '4GiB',
    wrong: answer => (parseBytes(answer) === undefined ? "A size, as '4GiB'" : undefined),
  },
  {
    key: 'whenFull',
    text: 'When the limit is reached: block or drop?',
    hint: 'block: reading the stores waits. drop: the slowest standby has to synchronise anew.',
    preset: () => 'block',
    wrong: oneOf('block', 'drop'),
  },
  {
    key: 'cascade',
    text: 'May further standbys be served from here (yes or no)?',
    preset: () => 'yes',
    wrong: oneOf('yes', 'no'),
  },
  {
    key: 'probeEvery',
    text: 'How often to measure the link with a probe',
    hint: '0 for never.',
    preset: () => '0',
    wrong: answer => (parseDuration(answer) === undefined ? "A time, as '60s'" : undefined),
  },
  {
    key: 'notify',
    text: 'Command to run for warnings and errors',
    hint: "HOTSPARE_LEVEL, HOTSPARE_CODE and HOTSPARE_MESSAGE are in its environment; 'none' for none.",
    preset: () => 'none',
    wrong: anything,
  },
  {
    key: 'onPromote',
    text: 'Command to run when this server becomes the primary',
    hint: "Moves the address, starts the application; 'none' for none.",
    preset: () => 'none',
    wrong: anything,
  },
  {
    key: 'onDemote',
    text: 'Command that stops the application before a planned hand-over',
    preset: () => 'none',
    wrong: anything,
  },
]

/** From the texts of the answers; each has passed its question's check. */
export function answersOf(
  given: Readonly<Partial<Record<string, string>>>,
  stores: readonly SetupStore[],
): SetupAnswers {
  const text = (key: string) => given[key] ?? ''
  const unlessNone = (key: string) => (text(key) === 'none' ? '' : text(key))
  return {
    set: text('set'),
    name: text('name'),
    role: text('role') === 'standby' ? 'standby' : 'primary',
    peer: text('peer'),
    address: unlessNone('address'),
    listen: unlessNone('listen'),
    state: text('state'),
    limit: text('limit'),
    whenFull: text('whenFull') === 'drop' ? 'drop' : 'block',
    cascade: text('cascade') !== 'no',
    probeEvery: text('probeEvery'),
    notify: unlessNone('notify'),
    onPromote: unlessNone('onPromote'),
    onDemote: unlessNone('onDemote'),
    stores,
  }
}

/** `hotspare.yaml`, with a word on each part. */
export function configText(answers: SetupAnswers): string {
  const q = (value: string) => JSON.stringify(value)
  const line = (key: string, value: string) => (value === '' ? [] : [`${key}: ${q(value)}`])
  const { role } = answers
  return [
    '# What this server of the set keeps, and with whom. docs/standby.md explains each line.',
    `set: ${q(answers.set)}`,
    `name: ${q(answers.name)}`,
    '# How a new server begins; after that its state directory knows.',
    `role: ${role}`,
    ...(role === 'standby' ? [`upstream: ${q(answers.peer)}`] : []),
    `state: ${q(answers.state)}`,
    ...line('listen', answers.listen),
    '',
    '# On each server of the set the same names; paths may differ.',
    'stores:',
    ...answers.stores.flatMap(store => [
      `  - path: ${q(store.path)}`,
      `    driver: ${q(store.driver)}`,
      ...(store.profile === undefined ? [] : [`    profile: ${q(store.profile)}`]),
    ]),
    '',
    'peers:',
    `  - name: ${q(answers.peer)}`,
    ...(answers.address === '' ? [] : [`    address: ${q(answers.address)}`]),
    '',
    'log:',
    `  limit: ${q(answers.limit)}`,
    `  when-full: ${answers.whenFull}`,
    '',
    `cascade: ${answers.cascade}`,
    ...(parseDuration(answers.probeEvery) === 0 ? [] : [`probe-every: ${q(answers.probeEvery)}`]),
    ...line('notify', answers.notify),
    ...line('on-promote', answers.onPromote),
    ...line('on-demote', answers.onDemote),
    '',
  ].join('\n')
}
