import { isIP, type LookupFunction } from 'node:net'
import ipaddr from 'ipaddr.js'

/** The code of the error for an address that is not public. */
export const PRIVATE_ADDRESS = 'private_address'

/** The prefix of DNS64 (RFC 6052): the last 32 bits are an IPv4 address, to which a NAT64 leads. */
const NAT64 = ipaddr.IPv6.parseCIDR('64:ff9b::/96')
/** The global unicast addresses of IPv6. ipaddr.js calls everything "unicast" that has no other range. */
const GLOBAL_UNICAST = ipaddr.IPv6.parseCIDR('2000::/3')

/** Whether an IP address is public: neither private, loopback, link-local, shared, multicast nor reserved. */
export function isPublicAddress (text: string): boolean {
  // An IPv4 address that is mapped to IPv6 becomes IPv4.
  const address = ipaddr.process(text)
  if (address instanceof ipaddr.IPv4) return address.range() === 'unicast'
  if (address.match(NAT64)) return new ipaddr.IPv4(address.toByteArray().slice(12)).range() === 'unicast'
  return address.match(GLOBAL_UNICAST) && address.range() === 'unicast'
}

/** Whether the host of a URL is an address that is not public. `publicOnly` checks the addresses of a name. */
export function isPrivateAddress ({ hostname }: URL): boolean {
  const address = hostname.replace(/^\[|\]$/g, '')
  return isIP(address) !== 0 && !isPublicAddress(address)
}

/**
 * Makes a lookup fail with `private_address` if one of the addresses is not public. The connection uses the addresses
 * of this very lookup, so a name whose addresses change later (DNS rebinding) leads nowhere else.
 */
export function publicOnly (lookup: LookupFunction): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, options, (err, found, family) => {
      const addresses = Array.isArray(found) ? found.map(({ address }) => address) : [found]
      if (err !== null || addresses.every(isPublicAddress)) callback(err, found, family)
      else callback(Object.assign(new Error('the address is not public'), { code: PRIVATE_ADDRESS }), [])
    })
  }
}
