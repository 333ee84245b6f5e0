// Who holds the other end, read from the kernel's table.
import { describe, expect, it } from 'vitest'
import { dialledIn, ownerIn } from '../../../agent/tunnel/peer-owner.ts'

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

describe('what a peer has dialled', () => {
  const from = { address: '192.168.7.5', port: 0xacb4 }
  const any = () => true
  it('is the far end of the client\'s own row, whatever ours is', () => {
    expect(dialledIn([row('0100007F:270F', '0507A8C0:ACB4', { uid: 0 }) + row('0507A8C0:ACB4', '0302010A:0055')], from, any)).toEqual({ address: '10.1.2.3', port: 85, uid: 1000 })
    expect(dialledIn(['', row('000077FD000000000000000005000000:ACB4', '090000FD000000000000000077000000:0055')], { address: 'fd77::5', port: 0xacb4 }, any)).toEqual({ address: 'fd00:9::77', port: 85, uid: 1000 })
    expect(dialledIn(['', row('0000000000000000FFFF00000507A8C0:ACB4', '0000000000000000FFFF00000302010A:0055')], from, any)).toEqual({ address: '10.1.2.3', port: 85, uid: 1000 })
  })
  it('cannot be told from two rows that may be meant, from none, or from an orphan', () => {
    const two = row('0507A8C0:ACB4', '0302010A:0055') + row('0507A8C0:ACB4', '0402010A:0055')
    expect(dialledIn([two], from, any)).toBeNull()
    expect(dialledIn([two], from, ({ address }) => address === '10.1.2.4')).toMatchObject({ address: '10.1.2.4' })
    expect(dialledIn([row('0507A8C0:ACB5', '0302010A:0055')], from, any)).toBeNull()
    expect(dialledIn([row('0507A8C0:ACB4', '0302010A:0055', { inode: 0 })], from, any)).toBeNull()
    expect(dialledIn([row('0100007F:270F', '0507A8C0:ACB4')], from, any)).toBeNull()
  })
})
