const CAPABILITY = /[\\/]src[\\/](?!http[\\/]|routes[\\/])[^\\/]+[\\/]/

/** Bounds the lines of code of a function. Comments and the functions inside it do not count. */
export const functionLines = {
  meta: {
    type: 'suggestion',
    schema: [{ type: 'integer' }],
    messages: { long: 'This function has {{ lines }} lines; {{ max }} are allowed.' }
  },
  create (context) {
    const [max = 60] = context.options
    const nested = []
    const linesOf = (node) =>
      new Set(context.sourceCode.getTokens(node).flatMap(({ loc }) => [loc.start.line, loc.end.line]))
    return {
      ':function' () { nested.push(new Set()) },
      ':function:exit' (node) {
        const all = linesOf(node)
        const inner = nested.pop()
        const own = new Set([...all].filter((line) => !inner.has(line)))
        for (const line of all) nested.at(-1)?.add(line)
        if (own.size > max) {
          context.report({ node, messageId: 'long', data: { lines: String(own.size), max: String(max) } })
        }
      }
    }
  }
}

/**
 * A plugin of a capability is the door of its folder: the file with the folder's name (`env.ts` of `settings`,
 * `meta-graph.ts` of `meta`). It decorates at most one thing and exports a factory beside it.
 */
export const door = {
  meta: {
    type: 'problem',
    schema: [{ type: 'object' }],
    messages: {
      name: 'Only the door of a folder is a plugin.',
      decorators: 'A door decorates one thing.',
      factory: 'A door exports its factory, create….'
    }
  },
  create (context) {
    const [doors = {}] = context.options
    const { filename } = context
    if (!CAPABILITY.test(filename)) return {}
    const [folder = '', file = ''] = filename.split(/[\\/]/).slice(-2)
    const isDoor = file === `${doors[folder] ?? folder}.ts`
    let plugin
    let hasFactory = false
    let decorators = 0
    return {
      'ImportDeclaration[source.value="fastify-plugin"]' (node) {
        plugin = node
        if (!isDoor) context.report({ node, messageId: 'name' })
      },
      'CallExpression[callee.property.name="decorate"]' (node) {
        if (++decorators > 1) context.report({ node, messageId: 'decorators' })
      },
      ':matches(ExportNamedDeclaration > FunctionDeclaration, ExportSpecifier)' (node) {
        hasFactory ||= /^(create|readEnv)/.test(node.id?.name ?? node.exported?.name ?? '')
      },
      'Program:exit' () {
        if (plugin !== undefined && isDoor && !hasFactory) context.report({ node: plugin, messageId: 'factory' })
      }
    }
  }
}
