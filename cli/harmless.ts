// Text from elsewhere made harmless for a terminal. Nothing is hidden: what can't be shown is written out as an escape.

// Controls move the cursor and retitle windows; format characters (direction, zero width) make a name read as another.
const unshowable = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu

/** One line: line breaks in it are escaped like the rest. */
export const harmless = (text: string): string => text.replaceAll(unshowable, escape)

/** As JSON and as a double-quoted YAML scalar understand it. */
const escape = (characters: string): string => Array.from({ length: characters.length }, (_, at) => `\\u${characters.charCodeAt(at).toString(16).padStart(4, '0')}`).join('')

/** JSON escapes C0 only, and a terminal takes C1 for commands too. The escapes mean the same to whoever parses it. */
export const harmlessJson = (value: unknown): string => harmless(JSON.stringify(value))
