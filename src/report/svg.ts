import { escapeHtml } from './escape.ts';

type Attributes = Readonly<Record<string, string | number | undefined>>;

/** One SVG element; attribute values are escaped, children are markup already. */
export function element(name: string, attributes: Attributes, children = ''): string {
  const written = Object.entries(attributes)
    .filter(([, value]) => value !== undefined)
    .map(
      ([key, value]) => ` ${key}="${escapeHtml(String(typeof value === 'number' ? round(value) : value))}"`,
    )
    .join('');
  return children ? `<${name}${written}>${children}</${name}>` : `<${name}${written}/>`;
}

const round = (value: number): number => Math.round(value * 100) / 100;

export const line = (x1: number, y1: number, x2: number, y2: number, kind: string): string =>
  element('line', { x1, y1, x2, y2, class: kind });

/** Text is escaped here. */
export const text = (x: number, y: number, content: string, kind: string, anchor = 'start'): string =>
  element('text', { x, y, class: kind, 'text-anchor': anchor }, escapeHtml(content));

export const tooltip = (content: string): string => `<title>${escapeHtml(content)}</title>`;

/** The image with its accessible name and description. */
export function image(
  id: string,
  size: { width: number; height: number },
  words: { title: string; description: string },
  body: string,
): string {
  const title = element('title', { id: `${id}-title` }, escapeHtml(words.title));
  const description = element('desc', { id: `${id}-desc` }, escapeHtml(words.description));
  return element(
    'svg',
    {
      viewBox: `0 0 ${size.width} ${size.height}`,
      role: 'img',
      'aria-labelledby': `${id}-title ${id}-desc`,
      class: 'chart',
    },
    title + description + body,
  );
}

/** About how wide a label is at the charts' text size of 12: glyphs average 0.56 of it, wide scripts all of it. */
export const textWidth = (content: string): number =>
  [...content].reduce((sum, glyph) => sum + (glyph.charCodeAt(0) > 0x2e7f ? 12 : 6.7), 0);

/** Cuts a label that would not fit, with an ellipsis. */
export function fit(content: string, width: number): string {
  if (textWidth(content) <= width) return content;
  let glyphs = [...content];
  while (glyphs.length > 1 && textWidth(`${glyphs.join('')}…`) > width) glyphs = glyphs.slice(0, -1);
  return `${glyphs.join('')}…`;
}
