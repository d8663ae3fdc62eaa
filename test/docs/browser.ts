import { runInNewContext } from 'node:vm'

/** A page in a browser in which the test replaces Meta's SDK. */
export interface Page {
  /** Clicks the element with this id. */
  click: (id: string) => void
  /** Clicks the child with this text. */
  choose: (id: string, text: string) => void
  /** The options that the page passed to FB.login, and the callback for Meta's answer. */
  logins: Array<{ answer: (response: object) => void, options: unknown }>
  /** Posts a message to the page, as a window of that origin does. */
  post: (origin: string, data: unknown) => void
  /** The number of requests that the page has sent, without those for a state. */
  requests: () => number
  /**
   * The text of the element with this id. Waits until all requests are answered or have failed, and the page has read
   * the answers.
   */
  settledText: (id: string) => Promise<string>
}

/** The members of an element that the page uses. */
class Element {
  textContent = ''
  children: Element[] = []
  clicked = () => {}
  addEventListener (_type: 'click', listener: () => void) { this.clicked = listener }
  replaceChildren (...children: Element[]) { this.children = children }
}

/** Runs the inline script of a page loaded from `origin`, for a user with this token. */
export function openPage (html: string, origin: string, tenantToken: string): Page {
  const elements = new Map([...html.matchAll(/ id="(\w+)"/g)].map(({ 1: id = '' }) => [id, new Element()]))
  const element = (id: string) => {
    const found = elements.get(id)
    if (found === undefined) throw new Error(`no element ${id}`)
    return found
  }
  const logins: Page['logins'] = []
  const sent: Array<{ path: string, reply: Promise<object> }> = []
  let onMessage = (_event: { origin: string, data: unknown }) => {}
  const window = {
    tenantToken,
    fbAsyncInit () {},
    addEventListener (_type: 'message', listener: typeof onMessage) { onMessage = listener }
  }
  runInNewContext(/<script>\n(.*?)<\/script>/s.exec(html)?.[1] ?? '', {
    window,
    document: { getElementById: element, createElement: () => new Element() },
    FB: {
      init () {},
      login: (answer: (response: object) => void, options: unknown) => logins.push({ answer, options })
    },
    fetch (path: string, init: RequestInit) {
      const reply = answerOf(fetch(new URL(path, origin), init))
      sent.push({ path, reply })
      return reply
    }
  })
  window.fbAsyncInit()
  return {
    click: (id) => element(id).clicked(),
    choose: (id, text) => element(id).children.find(({ textContent }) => textContent === text)?.clicked(),
    logins,
    post: (from, data) => onMessage({ origin: from, data }),
    requests: () => sent.filter(({ path }) => !path.endsWith('/start')).length,
    async settledText (id) {
      for (let answered = -1; answered < sent.length;) {
        answered = sent.length
        await Promise.allSettled(sent.map(({ reply }) => reply))
        // The bodies are loaded, so the page has read them after this and has sent its next requests.
        await new Promise(setImmediate)
      }
      return element(id).textContent
    }
  }
}

/** The members of an answer that the page uses, with the body loaded. */
async function answerOf (reply: Promise<Response>) {
  const response = await reply
  const body = await response.text()
  return { ok: response.ok, json: async () => JSON.parse(body) }
}
