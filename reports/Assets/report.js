document.querySelectorAll('table.results').forEach(table => {
  const body = table.tBodies[0];
  table.querySelectorAll('thead button').forEach(button => button.addEventListener('click', () => {
    const head = button.closest('th'), index = head.cellIndex;
    const up = head.getAttribute('aria-sort') !== 'ascending';
    table.querySelectorAll('th').forEach(th => th.removeAttribute('aria-sort'));
    head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
    const key = row => row.cells[index].dataset.v;
    const numeric = head.dataset.n !== undefined;
    // Rows without a number stay last either way.
    [...body.rows].sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === '' || y === '') return (x === '') - (y === '');
      const order = numeric ? x - y : x.localeCompare(y);
      return up ? order : -order;
    }).forEach(row => { row.classList.remove('first'); body.append(row); });
  }));
});
document.getElementById('theme').addEventListener('click', () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset.theme = dark ? 'light' : 'dark';
});
document.querySelectorAll('.copy').forEach(button => button.addEventListener('click', async () => {
  const range = document.createRange();
  range.selectNodeContents(button.previousElementSibling);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
  try { await navigator.clipboard.writeText(String(getSelection())); button.textContent = 'Copied'; } catch { button.textContent = 'Selected'; }
}));
