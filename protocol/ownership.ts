// Whose device an endpoint is. Only administrators say so, by the invitation or for one endpoint: no claim of the device counts.
import { z } from 'zod'

export const ownership = z.enum(['corporate', 'personal'], { error: 'must be corporate or personal' })
export type Ownership = z.infer<typeof ownership>
