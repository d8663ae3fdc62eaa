import { mkdirSync, readdirSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from '../../run/tap.js'
import { makeAtomicDirectory } from '../../../src/database/embedded/atomic-directory.js'

await t.test('a directory whose creation fails leaves nothing behind', async (t) => {
  const dir = t.testdir({})
  await t.rejects(makeAtomicDirectory(join(dir, 'place'), join(dir, 'place.new-'), async (temporary) => {
    writeFileSync(join(temporary, 'half'), '')
    throw new Error('half way')
  }), new Error('half way'))
  t.same(readdirSync(dir), [])
})

await t.test('the second creator keeps the directory of the first, and leftovers are removed', async (t) => {
  const dir = t.testdir({ 'place.new-crashed': {} })
  const place = join(dir, 'place')
  await makeAtomicDirectory(place, join(dir, 'place.new-'), async (temporary) => {
    mkdirSync(place)
    writeFileSync(join(place, 'first'), '')
    renameSync(temporary, place)
  })
  t.same(readdirSync(dir), ['place'])
  t.same(readdirSync(place), ['first'])
})
