import { createHmac } from 'node:crypto'
import { Webhook } from 'standardwebhooks'
import t from '../run/tap.js'
import { createPoster } from '../../src/events/post.js'
import { receiver, sampleEvent } from './event-receiver.js'

const [bytes, otherBytes] = [Buffer.alloc(24, 'a'), Buffer.from('ä text that is no base64')]
const standard = `whsec_${bytes.toString('base64')}`
const [text, other] = [otherBytes.toString(), 'another-secret-of-ours']

/** The verifiers of a receiver that has this secret. */
const verifiers = {
  [standard]: new Webhook(standard),
  [text]: new Webhook(otherBytes, { format: 'raw' }),
  [other]: new Webhook(other, { format: 'raw' })
}

for (const [setting, valid, firstKey] of [
  [standard, [standard], bytes],
  [text, [text], otherBytes],
  [`${standard},${text}`, [standard, text], bytes],
  [`${text} , ${standard}`, [text, standard], otherBytes]
] as const) {
  await t.test(`standardwebhooks verifies what ${setting} signs`, async (t) => {
    const { url, received } = await receiver(t)
    const before = Math.floor(Date.now() / 1000)
    const post = createPoster({ url, secrets: setting, allowsPrivate: true })
    t.match(await post(sampleEvent, new AbortController().signal), { status: 204 })
    const [delivery] = received
    if (delivery === undefined) return t.fail('nothing was received')
    const headers = Object.fromEntries(Object.entries(delivery.headers).map(([name, value]) => [name, String(value)]))
    for (const [secret, verifier] of Object.entries(verifiers)) {
      if (valid.some((one) => one === secret)) t.strictSame(verifier.verify(delivery.body, headers), sampleEvent)
      else t.throws(() => verifier.verify(delivery.body, headers), /No matching signature/)
    }
    t.equal(headers['webhook-id'], sampleEvent.id)
    t.ok(Number(headers['webhook-timestamp']) >= before && Number(headers['webhook-timestamp']) <= Date.now() / 1000)
    t.match(headers['webhook-signature'], /^v1,[A-Za-z0-9+/]{43}=( v1,[A-Za-z0-9+/]{43}=)?$/)
    t.equal(headers['webhook-signature']?.split(' ').length, valid.length)
    const digest = createHmac('sha256', firstKey).update(delivery.body).digest('hex')
    t.equal(headers['x-signature-256'], `sha256=${digest}`, 'the first secret signs the body alone')
  })
}
