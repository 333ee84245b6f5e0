// Avatars asked for one by one, and process lists at an event. Only of endpoints that the gateway sees.
import { avatarsOf, snapshot } from '../../protocol/operations/fabric.ts'
import { endpointsByAccount, uidsOfAvatars } from '../../schema/queries/avatar-owners.ts'
import { emsIdentity } from '../flows/authority.ts'
import { userPictures } from '../flows/report-bodies.ts'
import { handle, type Route } from '../http/mount.ts'
import { objectOf, refused, twice, type GatewayContext } from './reports.ts'
import { ok } from './server.ts'

/** Endpoints that bear one name, at most: names are the agents' own words, and a gateway asks for twenty at once. */
const PER_ACCOUNT = 20

const processes = async (context: GatewayContext, { fctsn, fctguid, start_timestamp: timestamp }: { fctsn: string; fctguid: string; start_timestamp: number }) => ({
  result: ok, data: twice({ timestamp, emssn: (await emsIdentity(context)).serial, vdom: 'root', fctsn, guid: fctguid, evtype: '', info_type: 'procinfo', info: { procinfolist: [] } }),
})

export const pictureRoutes: readonly Route[] = [
  handle(avatarsOf, {
    async run(context, { body }) {
      const { db, caller } = context
      const [fingerprints, users] = [body.fingerprints ?? [], body.users ?? []]
      const named = users.filter(({ fct_uid: uid, user_name: name }) => uid === '' && name !== '')
      const [owners, accounts] = await db.batch([uidsOfAvatars(db, fingerprints), endpointsByAccount(db, named.map(({ user_name: name }) => name), PER_ACCOUNT * Math.max(1, named.length))])
      const asked = new Set([...owners.map(({ uid }) => uid), ...accounts.map(({ uid }) => uid), ...users.flatMap(({ fct_uid: uid }) => (uid === '' ? [] : [uid]))])
      const seen = await objectOf(context).seenAmong(caller.serial, [...asked])
      if (seen === null) throw refused()
      const pictures = await userPictures(db, seen)
      const isAsked = ({ uid, fingerprint, account, domain }: (typeof pictures)[number]) => fingerprints.includes(fingerprint)
        || users.some((user) => (user.fct_uid === '' ? user.user_name === account : user.fct_uid === uid) && (user.domain_name === '' || user.domain_name === domain))
      return {
        result: ok, data: twice({ avatars: pictures.filter(isAsked).slice(0, 2 * PER_ACCOUNT).map(({ uid, fingerprint, avatar, account, domain }) => ({ fingerprint, avatar, user_name: account, domain_name: domain, fct_uid: uid })) }),
      }
    },
  }),
  handle(snapshot.get, { run: (context, { query }) => processes(context, query) }),
  handle(snapshot.post, { run: (context, { body }) => processes(context, body) }),
]
