import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'

/**
 * Where `npm test` puts the JavaScript of src/ and test/, in folders of these names; see test/tsconfig.compile.json.
 */
export const COMPILED = '.compiled'

/** Where `npm test` leaves the TAP of its files and their coverage. */
export const RESULTS = '.tap'

/**
 * The path of one of our TypeScript files, to start it in a separate process: the compiled file, if this one is
 * compiled.
 * @param file path from the project's root, such as `src/server.ts`
 */
export function modulePath (file: string): string {
  const extension = extname(import.meta.url)
  return fileURLToPath(new URL(`../../${file.slice(0, -extname(file).length)}${extension}`, import.meta.url))
}
