// `profiles`: what agents are configured with, by way of an endpoint policy.
import { createProfile, deleteProfile, listProfiles, replaceProfile } from '../protocol/operations/admin.ts'
import { profileInput, type Profile } from '../protocol/profile.ts'
import type { z } from 'zod'
import { definedCommands } from './defined.ts'
import { checkBy } from './definitions.ts'
import { at } from './instants.ts'
import { pagesOf } from './pages.ts'

const check = checkBy(profileInput)

export const profileCommands = definedCommands<Profile, z.output<typeof profileInput>>({
  noun: 'profiles', one: 'profile',
  columns: [
    { title: 'ID', cell: ({ id }) => id },
    { title: 'GATEWAYS', cell: ({ settings }) => String(settings.gateways.length) },
    { title: 'DESTINATIONS', cell: ({ settings }) => String(settings.destinations.length) },
    { title: 'UPDATED', cell: ({ updatedAt }) => at(updatedAt) },
    { title: 'NAME', cell: ({ name }) => name },
  ],
  pages: ({ call }) => pagesOf((query) => call(listProfiles, { query })),
  bodyOf: ({ name, settings }) => ({ name, settings }),
  create: ({ call }, body) => call(createProfile, { body }),
  replace: ({ call }, id, body) => call(replaceProfile, { params: { id }, body }),
  remove: ({ call }, id) => call(deleteProfile, { params: { id } }),
  deleting: 'It can not be had back.',
  fileForm: () => Promise.resolve({ check, toFile: (body) => body }),
  example: { name: 'Default', file: 'profiles.yaml' },
})
