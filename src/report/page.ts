import { escapeHtml } from './escape.ts';
import { STYLE } from './style.ts';

/** A whole page: no script, no request, light and dark. @param main markup already */
export const page = (title: string, main: string): string => `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"/>
<title>${escapeHtml(title)}</title>
<style>${STYLE}</style>
</head>
<body>
<main>
${main}
</main>
</body>
</html>
`;

/** Names and what is said of them. */
export const factsList = (entries: readonly (readonly [name: string, words: string])[]): string =>
  `<dl class="facts">${entries
    .map(([name, words]) => `<dt>${escapeHtml(name)}</dt><dd>${escapeHtml(words)}</dd>`)
    .join('')}</dl>`;

/** A table that scrolls sideways where it is too wide; the first column names the row. */
export function plainTable(
  label: string,
  head: readonly string[],
  rows: readonly (readonly string[])[],
): string {
  const heads = head.map(
    (name, i) => `<th scope="col"${i ? ' class="number"' : ''}>${escapeHtml(name)}</th>`,
  );
  const lines = rows.map((row) => {
    const [name, ...cells] = row.map(escapeHtml);
    return `<tr><th scope="row">${name}</th>${cells.map((cell) => `<td class="number">${cell}</td>`).join('')}</tr>`;
  });
  return `<div class="scroll" role="region" aria-label="${escapeHtml(label)}" tabindex="0">
<table>
<thead><tr>${heads.join('')}</tr></thead>
<tbody>
${lines.join('\n')}
</tbody>
</table>
</div>`;
}
