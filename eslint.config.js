import neostandard, { plugins } from 'neostandard'

const only = (message, ...group) => ({ 'no-restricted-imports': ['error', { patterns: [{ group, message }] }] })

export default [
  ...neostandard({ ts: true, ignores: ['dist', '.compiled', '.tap', 'docs', 'drizzle/meta', 'test/client/generated.ts'] }),
  {
    files: ['**/*.ts'],
    plugins: { '@typescript-eslint': plugins['typescript-eslint'].plugin },
    languageOptions: { parserOptions: { project: 'test/tsconfig.json' } },
    rules: {
      // Rows and JSON keep their snake_case names, also where they are taken apart.
      camelcase: 'off',
      // A schema and the type it stands for share a name; TypeScript itself refuses real redeclarations.
      '@typescript-eslint/no-redeclare': 'off',
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-non-null-assertion': 'error'
    }
  },
  {
    files: ['src/routes/**'],
    rules: only('Routes reach behaviour through decorators only.', 'pg', 'drizzle-orm', 'drizzle-orm/*')
  },
  {
    files: ['src/schemas/**'],
    rules: only('Schemas know TypeBox, the mask and the lists of statuses.', '../*', '!../vault', '../vault/*', '!../vault/masking.js', 'pg', 'fastify', 'drizzle-orm', 'drizzle-orm/*')
  }
]
