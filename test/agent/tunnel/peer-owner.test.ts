// Who holds the other end, read from the kernel's table.
import { describe, expect, it } from 'vitest'
import { ownerIn } from '../../../agent/tunnel/peer-owner.ts'

const row = (local: string, remote: string, { state = '01', uid = 1000, inode = 4242 } = {}) =>
  `   2: ${local} ${remote} ${state} 00000000:00000000 00:00000000 00000000  ${uid}        0 ${inode} 2 00000000bf271f3d 20 0 0 10 -1\n`
const peer = { address: '127.0.0.1', port: 0xac30 }
const ours = { address: '127.0.0.1', port: 0x8215 }
const clientRow = (options = {}) => row('0100007F:AC30', '0100007F:8215', options)

describe('the owner of a peer', () => {
  it('is the uid of the entry of the client, not of ours', () => {
    expect(ownerIn([row('0100007F:8215', '0100007F:AC30', { uid: 0 }) + clientRow()], peer, ours)).toBe(1000)
  })
  it('is found behind a mapped address in tcp6', () => {
    expect(ownerIn(['', row('0000000000000000FFFF00000100007F:AC30', '0000000000000000FFFF00000100007F:8215', { uid: 7 })], peer, ours)).toBe(7)
  })
  it('cannot be told without an entry', () => {
    expect(ownerIn(['', ''], peer, ours)).toBeNull()
    expect(ownerIn([row('0100007F:AC31', '0100007F:8215')], peer, ours)).toBeNull()
    expect(ownerIn([row('0100007F:AC30', '0100007F:8216')], peer, ours)).toBeNull()
  })
  it('cannot be told from an orphaned socket, which the kernel shows as uid 0', () => {
    expect(ownerIn([clientRow({ uid: 0, inode: 0, state: '05' })], peer, ours)).toBeNull()
    expect(ownerIn([clientRow({ state: '06' })], peer, ours)).toBeNull()
    expect(ownerIn([clientRow({ state: '02' })], peer, ours)).toBeNull()
  })
  it('cannot be told when two users answer to it', () => {
    expect(ownerIn([clientRow() + clientRow({ uid: 1001 })], peer, ours)).toBeNull()
    expect(ownerIn([clientRow() + clientRow()], peer, ours)).toBe(1000)
  })
})
