// What the page shows now.

export const view = {
  about: null, state: null, filters: {}, by: "rank", descending: false, first: 0, total: 0, rows: [], asked: 0,
};
