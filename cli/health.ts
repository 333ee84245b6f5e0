// `health`: whether the EMS answers, and how far its clock is from this one.
import { health } from '../protocol/operations/public.ts'
import { command } from './command.ts'
import { at } from './instants.ts'

export const healthCommands = [
  command({
    name: 'health', summary: 'Whether the EMS answers and its database does. Needs no token.', words: {}, options: {}, needsToken: false,
    examples: ['health', 'health --ems https://ems.example.com --json'],
    async run(_, { call, printer, now }) {
      const reply = await call(health, {})
      const apart = Math.round((reply.emsTime - now()) / 1000)
      await printer.one(reply, () => [`The EMS answers. Its clock says ${at(reply.emsTime)}${Math.abs(apart) > 2 ? `, ${Math.abs(apart)} s ${apart > 0 ? 'ahead of' : 'behind'} this one` : ''}.`])
    },
  }),
]
