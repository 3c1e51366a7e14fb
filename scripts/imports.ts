/** One module that a file names. `typeOnly` imports are erased: they order folders, but load nothing. */
export interface Import {
  readonly specifier: string;
  readonly typeOnly: boolean;
  readonly line: number;
}

const STATEMENT =
  /(?<![\w$.])(?:(?:import|export)\s+(type\s+)?(?:[\w$*{}\s,]+?)\s*from\s*|import\s*\(\s*|import\s+)(['"])([^'"\n]+)\2/g;

/**
 * Every import of a TypeScript file: static, re-export, side effect and dynamic. Comments and the text of
 * strings are blanked first, so that an import inside them is none.
 */
export function scanImports(source: string): Import[] {
  const code = blank(source);
  const imports: Import[] = [];
  for (const match of code.text.matchAll(STATEMENT)) {
    const end = match.index + match[0].length;
    const from = end - 1 - match[3].length;
    imports.push({
      specifier: source.slice(from, end - 1),
      typeOnly: match[1] !== undefined,
      line: source.slice(0, match.index).split('\n').length,
    });
  }
  return imports;
}

const REGEX_BEFORE = /(?:^|[=(,:;!&|?{}[\n+\-*%<>~^]|\b(?:return|typeof|case|in|of))\s*$/;

/** The source at the same offsets, with comments as spaces and the characters inside literals as `x`. */
function blank(source: string): { text: string } {
  const out = [...source.split('')];
  const braces: number[] = [];
  let depth = 0;
  let i = 0;
  const fill = (from: number, to: number, by: string) => {
    for (let k = from; k < to; k++) if (out[k] !== '\n') out[k] = by;
  };
  const template = () => {
    const from = i;
    while (i < source.length && source[i] !== '`' && !(source[i] === '$' && source[i + 1] === '{'))
      i += source[i] === '\\' ? 2 : 1;
    fill(from, Math.min(i, source.length), 'x');
    if (source[i] === '$') {
      braces.push(depth);
      i += 2;
    } else i++;
  };
  while (i < source.length) {
    const c = source[i];
    const pair = source.slice(i, i + 2);
    if (pair === '//' || pair === '/*') {
      const found = pair === '//' ? source.indexOf('\n', i) : source.indexOf('*/', i + 2) + 2;
      const to = found < i + 2 && pair === '/*' ? source.length : found === -1 ? source.length : found;
      fill(i, to, ' ');
      i = to;
    } else if (c === "'" || c === '"') {
      const from = ++i;
      while (i < source.length && source[i] !== c && source[i] !== '\n') i += source[i] === '\\' ? 2 : 1;
      fill(from, i, 'x');
      i++;
    } else if (c === '`') {
      i++;
      template();
    } else if (c === '/' && REGEX_BEFORE.test(out.slice(Math.max(0, i - 40), i).join(''))) {
      const from = ++i;
      for (let set = false; i < source.length && source[i] !== '\n' && (set || source[i] !== '/'); i++) {
        if (source[i] === '\\') i++;
        else if (source[i] === '[') set = true;
        else if (source[i] === ']') set = false;
      }
      fill(from, i, 'x');
      i++;
    } else if (c === '}' && braces.at(-1) === depth) {
      braces.pop();
      i++;
      template();
    } else {
      if (c === '{') depth++;
      if (c === '}') depth--;
      i++;
    }
  }
  return { text: out.join('') };
}
