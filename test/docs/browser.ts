import { runInNewContext } from 'node:vm'

/** A page in a browser that has Meta's SDK, whose part the test plays. */
export interface Page {
  /** Clicks the element with this id. */
  click: (id: string) => void
  /** Clicks the child of an element that says this. */
  choose: (id: string, text: string) => void
  /** What the page passed to FB.login, and the callback that Meta answers the login by. */
  logins: Array<{ answer: (response: object) => void, options: unknown }>
  /** Posts a message to the page, as a window of that origin does. */
  post: (origin: string, data: unknown) => void
  /** How many requests the page has sent, besides those for a state. */
  requests: () => number
  /**
   * What the element with this id says once all requests are answered, or have failed, and the page has read the
   * answers.
   */
  says: (id: string) => Promise<string>
}

/** What a page can do with an element. */
class Element {
  textContent = ''
  children: Element[] = []
  clicked = () => {}
  addEventListener (_type: 'click', listener: () => void) { this.clicked = listener }
  replaceChildren (...children: Element[]) { this.children = children }
}

/** Runs the inline script of a page that was loaded from `origin`, on behalf of a user with this token. */
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
    async says (id) {
      for (let answered = -1; answered < sent.length;) {
        answered = sent.length
        await Promise.allSettled(sent.map(({ reply }) => reply))
        // The bodies are there, so that the page has read them by then, and sent what follows from them.
        await new Promise(setImmediate)
      }
      return element(id).textContent
    }
  }
}

/** What the page uses of an answer, with the body read. */
async function answerOf (reply: Promise<Response>) {
  const response = await reply
  const body = await response.text()
  return { ok: response.ok, json: async () => JSON.parse(body) }
}
