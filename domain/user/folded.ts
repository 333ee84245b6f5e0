// Names as they are compared where case does not count. It says what is equal, and is shown to nobody.

/**
 * One character of another alphabet becomes an ASCII letter by lower case (the Kelvin sign, a `k`): that is left as it is,
 * or whoever may choose his own name would choose another's.
 */
export const folded = (text: string): string => (text.includes('\u212a') ? text.replaceAll(/[^\u212a]+/g, (run) => run.toLowerCase()) : text.toLowerCase())
