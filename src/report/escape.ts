const CONTROL = /[\p{Cc}\p{Cs}\p{Bidi_Control}\ufffe\uffff]/gu;

/** Controls and direction overrides become visible: a name must not be able to reorder what stands beside it. */
const visible = (text: string): string =>
  text.replace(CONTROL, (found) => (/[\t\n\r]/.test(found) ? found : '\ufffd'));

/** Text for an HTML or SVG text node or a quoted attribute. */
export const escapeHtml = (text: string): string =>
  visible(text)
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&#39;');

/** Text for one line of Markdown, in a table cell or outside. */
export const escapeMarkdown = (text: string): string =>
  visible(text)
    .replace(/\s+/g, ' ')
    .replace(/[\\`*[\]|~#]/g, '\\$&')
    .replace(/(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])/g, '\\_')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;');

/** JSON for a Markdown code span in a table: still JSON, with neither a backtick nor a bar. */
export const jsonForMarkdown = (value: unknown): string =>
  visible(JSON.stringify(value))
    .replaceAll('`', '\\u0060')
    .replaceAll('|', '\\u007c')
    .replaceAll('<', '\\u003c');
