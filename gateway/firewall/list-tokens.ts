// Tokens by which firewalls poll address lists: shown once, kept as hashes, and void from the next request on when revoked.
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { readJson, writeJson } from '../../node/key-store.ts'
import { instant, line, sha256Hex } from '../../protocol/text.ts'

const stored = z.array(z.strictObject({ name: line(64), /** SHA-256: a token has 256 random bits, so nothing slower is needed. */ hash: sha256Hex, createdAt: instant })).max(256)
export type StoredToken = z.infer<typeof stored>[number]

export const TOKEN_PREFIX = 'slt1_'
const fileOf = (directory: string) => join(directory, 'list-tokens.json')
const hashOf = (token: string) => createHash('sha256').update(token).digest()

/** Throws when the file is damaged. */
export const readTokens = async (directory: string): Promise<StoredToken[]> => await readJson(fileOf(directory), stored) ?? []

/** @returns the token, which nothing can show again; null when the name is taken. @param now ms */
export async function createToken(directory: string, name: string, now: number): Promise<string | null> {
  const tokens = await readTokens(directory)
  if (tokens.some((each) => each.name === name)) return null
  const token = `${TOKEN_PREFIX}${randomBytes(32).toString('base64url')}`
  await writeJson(fileOf(directory), stored.parse([...tokens, { name, hash: hashOf(token).toString('hex'), createdAt: now }]))
  return token
}

/** @returns false when there was none of that name */
export async function revokeToken(directory: string, name: string): Promise<boolean> {
  const tokens = await readTokens(directory)
  const left = tokens.filter((each) => each.name !== name)
  if (left.length < tokens.length) await writeJson(fileOf(directory), left)
  return left.length < tokens.length
}

/**
 * Checks tokens against the file as it is at that moment.
 * @returns the name of the token, null when it is none of ours; rejects when the file can't be read
 */
export function createTokenCheck(directory: string): (token: string) => Promise<string | null> {
  let version = ''
  let tokens: readonly { readonly name: string; readonly hash: Buffer }[] = []
  return async (token) => {
    const found = await stat(fileOf(directory)).catch((cause: NodeJS.ErrnoException) => {
      if (cause.code === 'ENOENT') return null
      throw cause
    })
    const seen = found === null ? 'none' : `${found.ino} ${found.mtimeMs} ${found.size}`
    if (seen !== version) {
      tokens = (await readTokens(directory)).map(({ name, hash }) => ({ name, hash: Buffer.from(hash, 'hex') }))
      version = seen
    }
    const presented = hashOf(token)
    let name: string | null = null
    // Every one is compared: how long it takes does not tell which it is.
    for (const each of tokens) if (timingSafeEqual(each.hash, presented)) name = each.name
    return name
  }
}
