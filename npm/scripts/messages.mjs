// Turns what npm/scripts/schemas.py prints (standard input) into src/messages.ts (standard output).

import { text } from 'node:stream/consumers';
import { compile } from 'json-schema-to-typescript';

const bannerComment = `// The messages and errors of the service. \`make npm-messages\` makes this file from the schemas of the service.
// Coordinates are pixels of the upright image, after EXIF orientation.`;

const { 'x-closes': closes, ...schema } = JSON.parse(await text(process.stdin));
const source = await compile(schema, 'Messages', {
  additionalProperties: false,
  bannerComment,
  unreachableDefinitions: true,
  style: { singleQuote: true, printWidth: 140 },
});
const types = source
  .replace('export interface Messages {}\n', '')
  .replace(/( \*\n)? \* This interface was referenced by `Messages`'s JSON-Schema\n \* via the `definition` ".*"\.\n/g, '');
const rows = Object.entries(closes).map(([code, { type, final }]) => `  ${code}: { type: '${type}', final: ${final} },\n`);
process.stdout.write(`${types}
/** The close codes of a stream: the problem, and whether the same stream would be rejected again. */
export const CLOSES: Readonly<Record<number, { type: ProblemType; final: boolean }>> = {
${rows.join('')}};
`);
