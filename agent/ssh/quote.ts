// Words for shells and for ssh's configuration, where each has its own ways to mistake them.

/** One word for a POSIX shell. */
export const shellWord = (word: string): string => (/^[A-Za-z0-9_./:=@,+-]+$/.test(word) ? word : `'${word.replaceAll('\'', '\'\\\'\'')}'`)
/** ssh expands `%` in commands and in names of files. */
export const withoutTokens = (text: string): string => text.replaceAll('%', '%%')
/** One argument of a line in ssh_config(5); without quotes and backslashes in it, which versions of ssh read differently. */
export const configWord = (text: string): string => `"${text}"`
